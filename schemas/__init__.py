"""What processes have to agree on: events, schemas, topics, settings. Imports no other package.

No I/O, except in ``serving``, which serves HTTP for every role.
"""
