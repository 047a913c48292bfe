"""What processes have to agree on: events, schemas, topics, settings. Imports no other package.

No I/O, except in ``serving``, which serves HTTP for every role, and in ``compiled_build``, which
looks for compiled modules before any of them is imported.
"""

import sys
from pathlib import Path

from schemas import compiled_build

compiled_build.install(Path(sys.prefix))
