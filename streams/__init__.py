"""The streams: what happens between the raw topic and everything that is derived from it.

Absences that hold: the core (all but ``cli``, ``commands``, ``embedded``, ``demo``) imports neither
``ingest`` nor ``analytics``; ``step`` and what it calls read no clock, no file and no network.
"""

import schemas as schemas  # looks for the compiled build, before any module of it is imported
