"""Whole-fetch delivery into Faust: one fetch of one partition is one Faust event."""
