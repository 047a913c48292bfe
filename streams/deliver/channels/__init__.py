"""Channels that people read: Slack, PagerDuty, email."""
