"""Apache Kafka as one process on this machine: its software, its configuration, its data.

``jars``, ``config`` and ``failures`` are pure; ``java``, ``install`` and ``data`` access the
machine. Nothing here starts or watches the broker: that is up to a supervisor, which gets the
command line from ``config.argv``.
"""
