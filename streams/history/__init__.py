"""Importing events from before mailpulse: files, their order, the fold, and how far it is."""
