"""Books that balance with the provider: its own history, which refills the raw topic."""
