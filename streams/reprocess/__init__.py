"""Reprocessing past events by newer rules: the plan, and the topic of rules."""
