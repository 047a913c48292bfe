"""Takes erased people out of records before they are stored.

Invariants:
1. Pure. The row of a record redacted here is the row that ``analytics.sink.eraser`` leaves of one
   that was stored before: ``ERASED_COLUMNS`` says the same in SQL, and a test compares them.
2. Keys, times, verdicts and counts of a row stay, so that figures do. Event and message keys are
   one-way hashes of the provider's ids.
3. A suppression whose evidence is older than the erasure is left out, and so is what an erasure
   itself writes on these topics: the eraser deletes the rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from analytics.sink.rows import Polled
from schemas.codec import AvroRecord, Codec
from schemas.erasure import (
    BASE64_RUN,
    ENCODED_ADDRESS,
    ERASED_DOMAIN,
    ERASED_KEY,
    Erasures,
    is_erasing,
    link_without_address,
    tags_without_address,
)
from schemas.errors import DecodeError
from schemas.topics import ENRICHED, HISTORY, SCOPED_SUPPRESSIONS, SUPPRESSIONS


def _has_address(text: str) -> str:
    """SQL of ``schemas.erasure.has_address``."""
    plain = f"decodeURLComponent(decodeURLComponent({text}))"
    read = "tryBase64Decode(substring(run, 1, intDiv(length(run), 4) * 4))"
    return (
        f"(position({plain}, '@') > 0 OR arrayExists(run -> match({read}, '{ENCODED_ADDRESS}'),"
        f" extractAll({plain}, '{BASE64_RUN.pattern}')))"
    )


_PAGE = "cutQueryStringAndFragment(click_url_group)"
ERASED_COLUMNS: dict[str, str] = {
    "message_id": "''",
    "rfc_message_id": "''",
    "recipient": "''",
    "recipient_identity": "''",
    "recipient_domain": f"'{ERASED_DOMAIN}'",
    "mailbox_provider": "if(position(mailbox_provider, '.') > 0,"
    f" '{ERASED_DOMAIN}', mailbox_provider)",
    "diagnostic": "''",
    "user_agent": "''",
    "ip": "''",
    "click_url": "''",
    "click_url_group": (
        f"multiIf(NOT {_has_address('click_url_group')}, click_url_group,"
        f" NOT {_has_address(_PAGE)}, {_PAGE},"
        f" {_has_address('domain(click_url_group)')} OR domain(click_url_group) = '', '',"
        " concat(protocol(click_url_group), '://', domain(click_url_group)))"
    ),
    "metadata": "map()",
    "tags": f"arrayFilter(tag -> NOT {_has_address('tag')}, tags)",
}
"""Columns of ``events`` that an erasure changes -> expression of the new value."""


class Cleared(NamedTuple):
    """A record without its person (a ``Polled``)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def cleared(records: Sequence[Polled], erasures: Erasures, codec: Codec) -> Sequence[Polled]:
    """What may be stored of records of one topic."""
    if not records:
        return records
    topic = records[0].topic
    if topic in (ENRICHED, HISTORY):
        return [_event(record, erasures, codec) for record in records]
    if topic in (SUPPRESSIONS, SCOPED_SUPPRESSIONS):
        return [one for one in records if not _is_erased(one, erasures, codec)]
    return records


def _event(record: Polled, erasures: Erasures, codec: Codec) -> Polled:
    redacted = record.key == ERASED_KEY
    if record.value is None or not (redacted or (erasures and erasures.may_concern(record.key))):
        return record
    try:
        whole = codec.decode(record.value, "enriched_event")
    except DecodeError:
        return record  # a dead letter
    if not redacted and not erasures.covers(whole["event"]):
        return record
    value = codec.encode("enriched_event", without_person(whole))
    return Cleared(
        record.topic, record.partition, record.offset, record.timestamp, ERASED_KEY, value,
        record.headers,
    )  # fmt: skip


def without_person(record: AvroRecord) -> AvroRecord:
    """An enriched event of an erased person as it is stored (``ERASED_COLUMNS``)."""
    event, added = record["event"], record["enrichment"]
    provider = added["mailbox_provider"]
    return {
        "event": {
            **event, "message_id": None, "rfc_message_id": None, "recipient": None,
            "recipient_identity": None, "recipient_domain": ERASED_DOMAIN, "diagnostic": None,
            "user_agent": None, "ip": None, "click_url": None, "metadata": {},
            "tags": tags_without_address(event["tags"]),
        },
        "enrichment": {
            **added, "mailbox_provider": ERASED_DOMAIN if "." in provider else provider,
            "click_url_group": link_without_address(added["click_url_group"]),
        },
    }  # fmt: skip


def _is_erased(record: Polled, erasures: Erasures, codec: Codec) -> bool:
    if is_erasing(record.headers):
        return True
    if not erasures or record.key is None:
        return False
    at = erasures.at_of_scope(record.key)
    if record.value is None:
        return record.timestamp * 1_000 < at
    try:
        since: int = codec.decode(record.value, "suppression")["since"]
    except DecodeError:
        return False  # a dead letter
    return since < at
