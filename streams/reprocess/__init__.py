"""Judging past events again by newer rules: the plan, and the topic that holds the rules."""
