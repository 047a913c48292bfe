"""The name of a log that outlived its topic.

After a restore into a new Kafka the raw topic has the records and offsets of the log that was
backed up, and another id of the broker's. The note says which log it is. It names the new topic, so
a topic that is recreated later is another log again.
"""

import json
from pathlib import Path

from schemas.errors import ConfigError
from schemas.settings import PREFIX

FILE = "log.json"


def keep_log(data_dir: Path, topic_id: str, log_id: str) -> None:
    """Notes that the raw topic of this id is the log ``log_id``."""
    path = data_dir / FILE
    unfinished = path.with_name(f"{FILE}.part")
    unfinished.write_text(json.dumps({"topic_id": topic_id, "log_id": log_id}), "utf-8")
    unfinished.replace(path)


def kept_log(data_dir: Path, topic_id: str) -> str:
    """The log that the raw topic of this id is by the note; empty: the one of its own id.

    Raises:
        ConfigError: the note can't be read: rows would get another log's coordinates.
    """
    path = data_dir / FILE
    try:
        note = json.loads(path.read_text("utf-8"))
        return str(note["log_id"]) if note["topic_id"] == topic_id else ""
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{PREFIX}DATA_DIR: {path}: {error}"]) from None
