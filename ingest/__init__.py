"""The front door: proves who sent a webhook, normalises it, and keeps it before saying so."""
