"""Classifies an event by its own fields: bounce class, human or machine, mailbox provider."""
