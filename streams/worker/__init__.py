"""The worker process: its agents, local state, restore and outputs."""
