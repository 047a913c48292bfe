"""From a proven request to the parcel of records that must be kept for it.

Invariants:
1. Pure: ``received_at`` is an argument, the parcel is a value.
2. Called only for a request whose signature was verified.
3. Every item of the request is in the parcel: as an event, or as a dead letter with its bytes. A
   body that can't be read at all is one dead letter. If a provider module raises an unexpected
   error, that is our bug and not the sender's: the body is kept, and the error goes to the log.
4. A dead letter's id is made of its source and its bytes, so sending it again gives the same id.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from ingest.body import Refused
from ingest.column_encoding import encode_columns
from ingest.parcel import Pair, Parcel
from ingest.privacy import Privacy
from ingest.providers.base import ConfirmSubscription, Parsed, Provider, Reject, Request
from schemas import dead_letter
from schemas.codec import Codec
from schemas.errors import BadInput
from schemas.event import Event, message_key
from schemas.settings import Settings, Source

_JSON = "application/json"
_RECORD_OVERHEAD_BYTES = 400
"""Upper bound on a record's headers and the framing of record and batch."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of a verified request.

    Attributes:
        parcel: the records to keep.
        accepted: how many events.
        rejected: how many dead letters.
        reasons: reason code of each dead letter.
        confirm: a subscription to confirm, once the parcel is kept.
        note: what a call without events was.
        recipients: as kept in the parcel; for the log, where the setting asks for them.
        bug: an error of a provider module, for the log.
        answer: body of the 200, where the provider expects a certain one.
        by_anyone: whether anybody could have made the request, see ``Provider.by_anyone``.
    """

    parcel: Parcel
    accepted: int
    rejected: int
    reasons: tuple[str, ...] = ()
    confirm: ConfirmSubscription | None = None
    note: str = ""
    recipients: tuple[str, ...] = ()
    bug: Exception | None = None
    answer: bytes = b""
    by_anyone: bool = False


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is kept of a page of a provider's history.

    Attributes:
        parcel: the records.
        events: those of its records for the raw topic, as they are kept.
    """

    parcel: Parcel
    events: list[Event]


class Intake:
    """Parses, applies the privacy setting, encodes.

    Args:
        settings: limits and privacy.
        codec: how records are framed.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        self._privacy = Privacy(
            settings.recipients, settings.recipient_hash_key.get_secret_value().encode()
        )
        self._events_max = settings.events_per_request_max
        self._record_bytes_max = settings.record_bytes_max - _RECORD_OVERHEAD_BYTES
        self._keep_recipients = settings.log_recipients
        self._prefix = codec.prefix("raw_event")
        self._by_column = self._privacy.mode == "plain" and not self._keep_recipients

    def take(self, provider: Provider, source: Source, request: Request, received_at: int) -> Taken:
        """The parcel of a verified request.

        Args:
            received_at: microseconds since 1970.

        Raises:
            Refused: 413, more events than the setting allows or a record that no broker takes.
        """
        bug: Exception | None = None
        try:
            parsed = provider.parse_alike(request, source, received_at)
            if not self._by_column:
                parsed = parsed.one_by_one()
        except BadInput as error:
            parsed = Parsed(rejects=[Reject(error.reason, error.detail, request.body)])
        except Exception as error:  # invariant 3
            bug = error
            detail = type(error).__name__
            parsed = Parsed(rejects=[Reject("provider_module_failed", detail, request.body)])
        if parsed.count > self._events_max:
            raise Refused(413, "too_many_events")
        events, failed = self._encode(source, parsed)
        rejects = parsed.rejects + failed
        kind = request.header("content-type")
        dead_letters = [self._dead_letter(source, one, kind, received_at) for one in rejects]
        self._check_sizes(events)
        self._check_sizes(dead_letters)
        return Taken(
            parcel=Parcel(received_at // 1000, events, dead_letters),
            accepted=len(events),
            rejected=len(dead_letters),
            reasons=tuple(one.reason for one in rejects),
            confirm=parsed.confirm,
            note=parsed.note,
            recipients=self._recipients(parsed.events),
            bug=bug,
            answer=parsed.answer,
        )

    def pulled(self, source: Source, parsed: Parsed, received_at: int) -> Pulled:
        """What is kept of a page of the provider's own history.

        A page is not refused for one event: one that no broker takes is a dead letter, with the
        beginning of its bytes.

        Args:
            received_at: microseconds since 1970.
        """
        kept: list[Event] = []
        pairs: list[Pair] = []
        rejects = list(parsed.rejects)
        most = self._record_bytes_max
        for event in parsed.events:
            made, failed = self._encode_events(source, [event])
            rejects += failed
            for key, value in made:
                if len(key) + len(value) > most:
                    rejects.append(Reject("record_too_large", f"{len(value)} bytes", value))
                else:
                    kept.append(event)
                    pairs.append((key, value))
        short = [replace(one, content=one.content[: most // 2]) for one in rejects]
        letters = [self._dead_letter(source, one, _JSON, received_at) for one in short]
        return Pulled(Parcel(received_at // 1000, pairs, letters), kept)

    def _recipients(self, events: list[Event]) -> tuple[str, ...]:
        if not self._keep_recipients:
            return ()
        return tuple(event["recipient"] for event in events[:20] if event["recipient"])

    def _encode(self, source: Source, parsed: Parsed) -> tuple[list[Pair], list[Reject]]:
        """Key and value of each event, in order; one that does not fit the schema is a reject."""
        if not parsed.alike:
            return self._encode_events(source, parsed.events)
        pairs: list[tuple[int, Pair]] = []
        left = parsed.events
        for columns in parsed.alike:
            try:
                values = encode_columns(columns, self._prefix)
            except BadInput:  # one of the events does not fit: find it by encoding each
                left = left + columns.events()
                continue
            encoded = zip(columns.keys(), values, strict=True)
            pairs += zip(columns.positions, encoded, strict=True)
        rejects: list[Reject] = []
        for event in left:
            made, failed = self._encode_events(source, [event])
            pairs += [(event["batch_index"], pair) for pair in made]
            rejects += failed
        pairs.sort(key=itemgetter(0))
        return [pair for _, pair in pairs], rejects

    def _encode_events(
        self, source: Source, events: list[Event]
    ) -> tuple[list[Pair], list[Reject]]:
        """The same for events that are not in columns."""
        pairs: list[Pair] = []
        rejects: list[Reject] = []
        encode, name, plain = self._codec.encode, source.name, self._privacy.mode == "plain"
        for event in events:
            event["source"] = name
            if not plain:
                self._privacy.apply(event)
            try:
                value = encode("raw_event", event)
            except BadInput as error:
                content = json.dumps(event, default=repr).encode("ascii")
                rejects.append(Reject(error.reason, error.detail, content))
                continue
            pairs.append((message_key(event), value))
        return pairs, rejects

    def _check_sizes(self, pairs: Sequence[Pair]) -> None:
        """Raises ``Refused`` for a record over the brokers' limit."""
        most = self._record_bytes_max
        for key, value in pairs:
            if len(key) + len(value) > most:
                raise Refused(413, "record_too_large")

    def _dead_letter(
        self, source: Source, reject: Reject, content_type: str | None, received_at: int
    ) -> Pair:
        letter = dead_letter.of_request(
            self._privacy.clear_bytes(reject.content),
            source=source.name,
            provider=source.sender,
            content_type=content_type,
            reason=reject.reason,
            detail=self._privacy.clear_text(reject.detail.encode("utf-8", "replace").decode()),
            received_at=received_at,
        )
        return letter["dead_letter_id"].encode(), self._codec.encode("dead_letter", letter)
