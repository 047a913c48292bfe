"""Reads from the metrics of ingress how requests were answered, and which sources are captured.

Invariants:
1. ``refusals`` and ``captures`` are pure: exposition texts in, rows out; several processes are
   taken together.
2. For a process that does not answer the page shows a message. Only the URLs of
   ``dashboard_metrics_urls`` are read.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

Document = dict[str, Any]
TIMEOUT_S = 2.0
ACCEPTED = "accepted"
REQUESTS = "mailpulse_ingest_requests_total"
CAPTURES = "mailpulse_ingest_capture_until_seconds"


def captures(texts: Iterable[str]) -> list[Document]:
    """Sources whose requests ``mailpulse capture`` reads, and until when at the latest.

    Raises:
        ValueError: a text is not in the exposition format.
    """
    found: dict[str, float] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == CAPTURES:
                    source = sample.labels.get("source", "")
                    found[source] = max(found.get(source, 0.0), sample.value)
    return [
        {"source": source, "until_ms": int(until * 1_000)}
        for source, until in sorted(found.items())
    ]


def refusals(texts: Iterable[str]) -> list[Document]:
    """Requests per source and result since the processes started, most frequent first.

    Raises:
        ValueError: a text is not in the exposition format.
    """
    found: Counter[tuple[str, str]] = Counter()
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == REQUESTS:
                    key = (sample.labels.get("source", ""), sample.labels.get("result", ""))
                    found[key] += int(sample.value)
    return [
        {"source": source, "result": result, "requests": count, "refused": result != ACCEPTED}
        for (source, result), count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
        if count
    ]


class Scraper:
    """Reads the metrics of every URL."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)

    async def read(self) -> Document:
        """``requests``, and a message about URLs that did not answer."""
        answers = await asyncio.gather(*map(self._text, self._urls), return_exceptions=True)
        texts = [answer for answer in answers if isinstance(answer, str)]
        silent = [
            url for url, answer in zip(self._urls, answers, strict=True)
            if not isinstance(answer, str)
        ]  # fmt: skip
        try:
            rows, on = refusals(texts), captures(texts)
        except ValueError:
            rows, on, silent = [], [], list(self._urls)
        return {
            "requests": rows,
            "captures": on,
            "metrics_known": bool(self._urls),
            "metrics_trouble": f"no metrics from {', '.join(silent)}" if silent else "",
        }

    async def _text(self, url: str) -> str:
        answer = await self._http.get(url, headers={"accept": "text/plain"})
        answer.raise_for_status()
        return answer.text

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()
