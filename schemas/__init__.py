"""What two processes must agree on: events, schemas, topics, settings; no other package.

No I/O, but for ``serving``: the one way to serve HTTP.
"""
