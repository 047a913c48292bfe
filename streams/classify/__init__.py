"""What an event means by its own fields: bounce class, person or machine, mailbox provider."""
