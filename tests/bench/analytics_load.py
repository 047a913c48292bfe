"""Millions of enriched events, made fast enough that the making is not what is measured.

Invariants:
1. Proportions like real mail: a campaign goes out within an hour or two to mailboxes of six kinds;
   opens and clicks follow over two days, most of them early; some bounce; machines open too.
2. Deterministic: the same numbers give the same bytes.
3. Bytes are put together from Avro pieces; ``check`` holds them against ``fastavro``.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.codec import FIXED_IDS, AvroRecord, Codec, framing_prefix
from schemas.glossary import COUNTER_INDEX, COUNTER_NAMES
from tests.builders import enrichment, event

DAY_S = 86_400
MAILBOXES = (
    ("gmail", "gmail.com", 0.38),
    ("microsoft", "outlook.com", 0.22),
    ("yahoo", "yahoo.com", 0.12),
    ("apple", "icloud.com", 0.12),
    ("gmx.de", "gmx.de", 0.09),
    ("example.org", "example.org", 0.07),
)
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)
DIAGNOSTICS = (
    ("hard", "no_mailbox", "5.1.1", 550, "550 5.1.1 The email account does not exist"),
    ("soft", "mailbox_full", "4.2.2", 452, "452 4.2.2 The recipient's mailbox is full"),
    ("block", "reputation", "5.7.1", 554, "554 5.7.1 Message refused for sender reputation"),
)
Cell = tuple[str, str, int]


def _long(number: int) -> bytes:
    rest = number << 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _long(len(encoded)) + encoded


_HEX = "f" * 32
_MESSAGE = "m" * 22
_RECIPIENT = "r" * 14
_WHEN = 1_234_567_890_123_456
_RECEIVED = 1_234_567_890_123_457
_OFFSET = 1_234_567_890_123_458


class Template:
    """The bytes of a record, cut where its values go."""

    def __init__(self, record: AvroRecord, domain: str) -> None:
        value = Codec().encode("enriched_event", record)
        marks = (
            _text(_HEX), _long(_WHEN), _long(_RECEIVED), _text(_MESSAGE),
            _text(f"{_RECIPIENT}@{domain}"), _long(_OFFSET), _long(_OFFSET), _long(_WHEN),
            _text(_HEX),
        )  # fmt: skip
        self.parts: list[bytes] = []
        for mark in marks:
            head, found, value = value.partition(mark)
            if not found:
                raise ValueError("the schema has changed: a mark is not in the record")
            self.parts.append(head)
        self.parts.append(value)
        self.domain = domain

    def fill(
        self, identity: str, at_us: int, lag_us: int, message: str, person: str, offset: int,
        key: str,
    ) -> bytes:  # fmt: skip
        """One record."""
        p = self.parts
        at, place = _long(at_us), _long(offset)
        return b"".join(
            (
                p[0], b"\x40", identity.encode(), p[1], at, p[2], _long(at_us + lag_us), p[3],
                b"\x2c", message.encode(), p[4], _text(f"{person}@{self.domain}"), p[5], place,
                p[6], place, p[7], at, p[8], b"\x40", key.encode(), p[9],
            )
        )  # fmt: skip


def _template(campaign: str, box: int, kind: str, variant: int) -> Template:
    mailbox, domain, _ = MAILBOXES[box]
    fields: AvroRecord = {
        "event_id": _HEX, "event_type": kind, "occurred_at": _WHEN, "received_at": _RECEIVED,
        "provider": "sendgrid", "source": "news", "message_id": _MESSAGE,
        "recipient": f"{_RECIPIENT}@{domain}", "recipient_domain": domain,
        "campaign_id": campaign, "campaign_source": "metadata", "native_type": kind,
        "tags": ["newsletter"], "metadata": {"campaign_id": campaign},
    }  # fmt: skip
    added: AvroRecord = {
        "log_id": "bench", "partition": box % 4, "offset": _OFFSET, "version": _OFFSET,
        "event_time": _WHEN, "message_key": _HEX, "campaign_id": campaign,
        "campaign_source": "metadata", "mailbox_provider": mailbox, "rules_version": 1,
        "first_of_kind": True,
    }  # fmt: skip
    if kind == "bounced":
        severity, reason, status, code, text = DIAGNOSTICS[variant % 3]
        fields |= {"enhanced_status": status, "smtp_code": code, "diagnostic": text}
        added |= {"bounce_class": severity, "bounce_reason": reason}
    if kind in ("opened", "clicked"):
        fields |= {"user_agent": AGENTS[variant % 5], "ip": f"198.51.100.{variant % 250}"}
        machine = variant % 5 == 4
        added |= {
            "actor": "machine" if machine else "human",
            "actor_reason": "gmail_proxy" if machine else "",
            "first_human": not machine,
            "device": "desktop",
        }
        if kind == "clicked":
            fields["click_url"] = f"https://shop.example.com/offers/{variant % 7}?utm={campaign}"
    return Template({"event": event(**fields), "enrichment": enrichment(**added)}, domain)


@dataclass
class Load:
    """A made-up month of mail.

    Attributes:
        events: how many events to make.
        campaigns: in how many campaigns.
        start_s: begin of the month, seconds since 1970.
        days: its length.
        pack: encode a campaign's minutes as soon as it is through, so that millions of events
            leave little behind; ``minutes`` then knows the campaign under way only.
        minutes: filled while the events are made: counts of each campaign minute.
    """

    events: int
    campaigns: int = 200
    start_s: int = 0
    days: int = 30
    pack: bool = False
    minutes: dict[Cell, list[int]] = field(default_factory=lambda: defaultdict(_zero))
    _packed: list[bytes] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Partition and framed bytes of each event, campaign by campaign."""
        dice = random.Random(4)
        prefix = framing_prefix(FIXED_IDS["enriched_event.v1"])
        made = number = 0
        per_campaign = -(-self.events // self.campaigns)
        for index in range(self.campaigns):
            campaign = f"campaign-{index:04}"
            begin = self.start_s + int(index / self.campaigns * (self.days - 3) * DAY_S)
            templates: dict[tuple[int, str, int], Template] = {}
            goal = min(self.events, made + per_campaign)
            while made < goal:
                number += 1
                for kind, box, variant, at, message, person, key in self._message(
                    dice, number, begin, campaign
                ):
                    if made >= goal:
                        break
                    template = templates.get((box, kind, variant))
                    if template is None:
                        template = _template(campaign, box, kind, variant)
                        templates[box, kind, variant] = template
                    identity = hashlib.md5(b"%d" % made, usedforsecurity=False).hexdigest()
                    lag = dice.randrange(300_000, 5_000_000)
                    value = template.fill(identity, at * 1_000_000, lag, message, person, made, key)
                    assert value.startswith(prefix)
                    made += 1
                    yield box % 4, value
            if self.pack:
                self._packed += self._encoded(len(self._packed))
                self.minutes.clear()

    def _message(
        self, dice: random.Random, number: int, begin: int, campaign: str
    ) -> Iterator[tuple[str, int, int, int, str, str, str]]:
        key = hashlib.md5(b"m%d" % number, usedforsecurity=False).hexdigest()
        message, person = key[:11] * 2, f"user.{dice.randrange(10**9):09}"
        box = dice.choices(range(6), [weight for *_, weight in MAILBOXES])[0]
        sent = begin + int(dice.expovariate(1 / 1800))
        common = (message, person, key)
        if dice.random() < 0.03:
            variant = dice.randrange(3)
            name = f"bounced_{DIAGNOSTICS[variant][0]}"
            yield ("bounced", box, variant, sent, *common)
            # behind the yield: an event that nobody took is not counted
            self._count(campaign, box, sent, "events", name)
            return
        yield ("delivered", box, 0, sent, *common)
        self._count(campaign, box, sent, "events", "delivered")
        by_humans = set()
        for kind, chance, scale in (("opened", 0.45, 14_400), ("clicked", 0.09, 18_000)):
            if dice.random() > chance:
                continue
            at = sent + int(dice.expovariate(1 / scale))
            variant = dice.randrange(20)
            machine = variant % 5 == 4
            names = ["events", f"{kind}_any"]
            names += [f"machine_{kind[:4]}s"] if machine else [kind]
            if not machine:
                names.append("opens" if kind == "opened" else "clicks")
            yield (kind, box, variant, at, *common)
            known = [name for name in names if name in COUNTER_INDEX]
            self._count(campaign, box, at, *known)
            self._count(campaign, box, sent, f"cohort_{kind}_any")
            if not machine:
                self._count(campaign, box, sent, f"cohort_{kind}")
                by_humans.add(kind)
        if len(by_humans) == 2:
            self._count(campaign, box, sent, "cohort_opened_clicked")

    def _count(self, campaign: str, box: int, at: int, *names: str) -> None:
        vector = self.minutes[campaign, MAILBOXES[box][0], at // 60]
        for name in names:
            vector[COUNTER_INDEX[name]] += 1

    def minute_values(self) -> Iterator[bytes]:
        """The counts as framed records of the minutes topic."""
        yield from self._packed
        yield from self._encoded(len(self._packed))

    def _encoded(self, first_offset: int) -> Iterator[bytes]:
        codec = Codec()
        cells = enumerate(self.minutes.items(), first_offset)
        for offset, ((campaign, mailbox, minute), vector) in cells:
            yield codec.encode(
                "campaign_minute",
                {
                    "campaign_id": campaign,
                    "mailbox_provider": mailbox,
                    "minute": minute * 60_000,
                    "log_id": "bench",
                    "partition": 0,
                    "offset": offset,
                    **dict(zip(COUNTER_NAMES, vector, strict=True)),
                },
            )


def _zero() -> list[int]:
    return [0] * len(COUNTER_NAMES)


def check(load: Load) -> None:
    """Decodes some records as any consumer would.

    Raises:
        DecodeError, AssertionError: the pieces do not add up to what was meant.
    """
    codec = Codec()
    for _, (_, value) in zip(range(500), load, strict=False):
        record = codec.decode(value, "enriched_event")
        assert record["event"]["occurred_at"] == record["enrichment"]["event_time"]
        assert record["event"]["received_at"] > record["event"]["occurred_at"]
        assert record["event"]["recipient"].endswith(record["event"]["recipient_domain"])
