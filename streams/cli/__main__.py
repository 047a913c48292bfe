"""``python -m streams.cli``: the command line without its script, as children are started."""

from streams.cli.main import main

main()
