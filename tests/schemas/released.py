"""The fingerprints of released schema versions, and the command that records them.

``python -m tests.schemas.released`` adds versions that are not recorded yet, on the day they are
released; it refuses to change one that is. ``--unreleased NAME`` forgets one that no release has
carried so far, so that it can still be changed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.codec import FIXED_IDS, schema_json

PATH = Path(__file__).with_name("released.json")


def canonical(full: str) -> str:
    """SHA-256 of a schema's parsing canonical form (Avro specification): docs do not count."""
    parsed = fastavro.parse_schema(schema_json(full))
    return str(fingerprint(to_parsing_canonical_form(parsed), "sha256"))


def released() -> dict[str, str]:
    """``name.version`` -> fingerprint from the day of its release."""
    recorded: dict[str, str] = json.loads(PATH.read_text(encoding="utf-8"))
    return recorded


def main(given: Sequence[str] | None = None) -> int:
    """Records what is new; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.schemas.released", description=__doc__)
    parser.add_argument("--unreleased", action="append", default=[], metavar="NAME.VERSION")
    arguments = parser.parse_args(given)
    recorded = released() if PATH.exists() else {}
    for full in arguments.unreleased:
        recorded.pop(full, None)
    current = {full: canonical(full) for full in FIXED_IDS}
    changed = [full for full in recorded if recorded[full] != current.get(full)]
    if changed:
        print(f"released and changed: {', '.join(changed)}; make a new version", file=sys.stderr)
        return 1
    PATH.write_text(json.dumps(recorded | current, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
