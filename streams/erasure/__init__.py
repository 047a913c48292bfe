"""Forgetting people: the topic of erasures, what is known of a person, the certificate."""
