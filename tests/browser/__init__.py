"""The dashboard, in a real browser and over a real engine."""
