"""From the topics into ClickHouse, and out to the people who ask.

Absences that hold: nothing here imports ``ingest`` or ``streams``; nothing here counts. What a
figure means is decided by the streams and the glossary; here it is stored once and read back.
"""
