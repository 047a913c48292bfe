"""A short story of one campaign, posted by a generic sender, with records for every topic.

Invariants:
1. Every topic that the pipeline writes gets at least one record of each kind: corrections,
   withdrawals and lifts included.
2. All addresses are at ``ADDRESS_DOMAIN``, so that a leak is found by searching for it.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

SECRET = "s3cret"
CONFIG = """\
[sources.shop]
provider = "generic"
secret = "env:SHOP_SECRET"
[alerts]
hold_seconds = 1
"""
SECRETS = {"SHOP_SECRET": SECRET}
ADDRESS_DOMAIN = "recipients.example"
AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
BOUNCES = 120
"""Enough for an incident."""


def address(name: str) -> str:
    """An address of the story."""
    return f"{name}@{ADDRESS_DOMAIN}"


def post(
    url: str, body: bytes, more: Mapping[str, str] | None = None, source: str = "shop"
) -> httpx.Response:
    """A signed request to a source; ``more``: headers."""
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-webhook-signature": f"sha256={signature}", **(more or {})}
    return httpx.post(f"{url}/hooks/{source}", content=body, headers=headers, trust_env=False)


def event(name: str, identity: str, person: str, at: int, **more: Any) -> dict[str, Any]:
    """One event of the message to ``person``; ``identity`` names it."""
    return {
        "event": name, "id": identity, "time": at, "message_id": f"m-{person}",
        "recipient": address(person), "campaign_id": "spring", **more,
    }  # fmt: skip


def chapters(now: int) -> list[list[dict[str, Any]]]:
    """Requests in order; each is to be answered before the next is sent.

    Args:
        now: seconds since 1970; everything happens in the quarter of an hour before.
    """
    start = now - 900
    hard = {"class": "hard", "diagnostic": f"550 5.1.1 <{address('gone')}>: no such user"}
    soft = {"class": "soft", "reason": "mailbox_full"}
    links = [f"https://shop.example/{number}" for number in range(3)]
    return [
        # a human who opens and clicks
        [event("delivered", "d1", "ada", start)],
        [
            event("opened", "o1", "ada", start + 300, user_agent=AGENT),
            event(
                "clicked", "c1", "ada", start + 320, user_agent=AGENT,
                url=f"https://shop.example/sale?to={address('ada')}",
            ),
        ],
        # a human, as it seems, until the third link shows a scanner: withdrawn, written again
        [event("delivered", "d2", "scan", start)],
        [event("clicked", "c2", "scan", start + 400, user_agent=AGENT, url=links[0])],
        [
            event("clicked", f"c{3 + n}", "scan", start + 401, user_agent=AGENT, url=link)
            for n, link in enumerate(links[1:])
        ],
        # an address that is full on five days, then takes a message: suppressed, then lifted
        *(
            [
                event(
                    "bounced", f"f{n}", "full", start - (4 - n) * 86_400, message_id=f"full-{n}",
                    bounce=soft,
                )
            ]
            for n in range(5)
        ),
        [event("delivered", "f9", "full", start + 60, message_id="full-9")],
        # a list that should not have been bought: an incident
        [
            event("bounced", f"h{n}", f"gone{n}", start + n % 60, bounce=hard)
            for n in range(BOUNCES)
        ],
    ]  # fmt: skip


def tell(url: str, source: str = "shop") -> int:
    """Posts the whole story, and a body that can't be read.

    Returns:
        How many events were accepted.
    """
    told = 0
    for chapter in chapters(int(time.time())):
        answer = post(url, json.dumps(chapter).encode(), source=source)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"accepted": len(chapter), "rejected": 0}
        told += len(chapter)
    letter = {"nonsense": 1, "to": address("letter")}
    refused = post(url, json.dumps(letter).encode(), source=source)
    assert refused.json() == {"accepted": 0, "rejected": 1}
    return told
