"""Runs the whole pipeline on one machine: the supervisor, its child processes, the demo."""
