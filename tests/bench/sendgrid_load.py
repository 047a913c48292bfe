"""Signed SendGrid requests, and wrk to send them.

Invariants:
1. Every request is signed for real, with its own events; the same requests go to every server.
2. wrk only replays prepared requests, so the client costs little and the same for all.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from ingest import verify
from ingest.providers.sendgrid import SIGNATURE, TIMESTAMP

_KINDS = ("delivered", "open", "click", "bounce", "processed", "deferred")
_AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5"


@dataclass(frozen=True, slots=True)
class Signed:
    """A prepared request."""

    headers: dict[str, str]
    body: bytes


def sendgrid_event(number: int, now: int) -> dict[str, object]:
    """One event as SendGrid documents it, of the kind that its number gives."""
    kind = _KINDS[number % len(_KINDS)]
    event: dict[str, object] = {
        "email": f"reader{number}@example{number % 50}.com",
        "event": kind,
        "timestamp": now - number % 600,
        "sg_event_id": f"bench-{kind}-{number:012d}-{now}",
        "sg_message_id": f"14c5d75ce93.dfd.64b469.{number:08d}.filter0001.16648.5515E0B88.0",
        "smtp-id": f"<14c5d75ce93.dfd.{number}@ismtpd-555>",
        "category": ["spring", "newsletter"],
        "campaign_id": f"campaign-{number % 20}",
        "customer": str(number % 1000),
    }
    if kind in ("open", "click"):
        event |= {"useragent": _AGENT, "ip": "203.0.113.7"}
    if kind == "click":
        event["url"] = f"https://shop.example.com/offers/{number % 300}?utm_source=mail"
    if kind == "bounce":
        event |= {"reason": "550 5.1.1 The email account does not exist", "status": "5.1.1",
                  "type": "bounce"}  # fmt: skip
    if kind in ("delivered", "deferred"):
        event["response"] = "250 2.0.0 OK 1789 queued as 4QxYz"
    return event


def signed_requests(private_key: str, count: int, events_each: int) -> list[Signed]:
    """``count`` requests of ``events_each`` events, every event another."""
    now = int(time.time())
    requests = []
    for number in range(count):
        first = number * events_each
        events = [sendgrid_event(first + i, now) for i in range(events_each)]
        body = orjson.dumps(events) + b"\r\n"
        signature = verify.sign_ecdsa(private_key, str(now).encode() + body)
        headers = {
            "Host": "127.0.0.1",  # wrk adds none to requests that are made beforehand
            "Content-Type": "application/json", SIGNATURE: signature, TIMESTAMP: str(now),
        }  # fmt: skip
        requests.append(Signed(headers, body))
    return requests


def lua_script(requests: Sequence[Signed], path: str) -> str:
    """A wrk script that sends the requests in turn, and prints its result as one JSON line."""
    lines = ["local requests = {}"]
    for number, request in enumerate(requests, 1):
        headers = ", ".join(f'["{k}"]="{v}"' for k, v in request.headers.items())
        # A long bracket drops the first line end behind it and keeps "\r\n" as "\n": so the body
        # goes in as escaped bytes.
        body = "".join(
            chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:03d}" for c in request.body
        )
        lines.append(f'requests[{number}] = wrk.format("POST", "{path}", {{{headers}}}, "{body}")')
    lines += [
        "local at = 0",
        f"request = function() at = at % {len(requests)} + 1; return requests[at] end",
        "local threads = {}",
        'setup = function(thread) table.insert(threads, thread); thread:set("refused", 0) end',
        "response = function(status) if status ~= 200 then refused = refused + 1 end end",
        "done = function(summary, latency)",
        "  local refused = 0",
        '  for _, t in ipairs(threads) do refused = refused + t:get("refused") end',
        "  local e = summary.errors",
        '  print(string.format(\'RESULT {"requests": %d, "us": %d, "refused": %d, "errors": %d, '
        '"p50_us": %d, "p99_us": %d}\', summary.requests, summary.duration, refused, '
        "e.connect + e.read + e.write + e.timeout, "
        "latency:percentile(50), latency:percentile(99)))",
        "end",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Round:
    """What one run of wrk saw.

    Attributes:
        requests: answered.
        per_s: requests a second.
        p50_ms: median latency.
        p99_ms: 99th percentile.
        bad: requests not answered 200, or not at all.
    """

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    bad: int


def wrk(url: str, script: Path, seconds: float, connections: int) -> Round:
    """Loads ``url`` for ``seconds`` (whole ones, at least 1) over ``connections``.

    Raises:
        RuntimeError: no wrk on this machine, or it failed.
    """
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed (Debian package wrk)")
    argv = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
    out = subprocess.run([*argv, url], capture_output=True, text=True, check=False)
    found = re.search(r"^RESULT (.*)$", out.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk: {out.stdout}{out.stderr}")
    result = json.loads(found[1])
    return Round(
        requests=result["requests"],
        per_s=result["requests"] / (result["us"] / 1e6),
        p50_ms=result["p50_us"] / 1000,
        p99_ms=result["p99_us"] / 1000,
        bad=result["refused"] + result["errors"],
    )
