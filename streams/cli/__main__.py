"""``python -m streams.cli``: the command line, as the supervisor starts its children."""

from streams.cli.entry import main

main()
