"""Books that balance with the provider: its own history, which refills the raw topic, and silences
of sources that have a rhythm.

``rhythm`` and ``silence`` are pure; ``watch`` asks ClickHouse and writes to Kafka.
"""
