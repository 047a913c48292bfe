"""Apache Kafka as one process on this machine: its software, its configuration, its data.

``jars``, ``config`` and ``failures`` are pure. ``java``, ``install`` and ``data`` look at the
machine. Nothing here starts the broker or watches it: that is its supervisor's, which gets a
command line from ``config.argv``.
"""
