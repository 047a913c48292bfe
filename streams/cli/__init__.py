"""The commands of ``mailpulse``, by subject; ``streams.cli.main`` puts them together.

Importing a module of this package starts nothing and imports neither Faust, nor a database client,
nor a web server: a command imports what it needs when it runs, so that ``mailpulse --help`` is
quick.
"""
