"""Suppressions written back to the lists of providers: destinations of kind ``suppress:PROVIDER``.

None of these was tried on a live account: they were written from the providers' own documents and
tested against replicas made from the same.
"""
