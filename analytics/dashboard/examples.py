"""Examples of one verdict on a campaign's opens or clicks, for the campaign's page.

Invariant: recipients are masked unless ``dashboard_show_recipients`` is set; of IP addresses only
the network is shown.
"""

from collections.abc import Callable, Mapping
from typing import Any

from analytics.dashboard import period
from analytics.dashboard.asking import Asker
from analytics.verdicts import questions, words
from schemas.errors import BadInput

VALUE_CHARS_MAX = 200
CAMPAIGN_CHARS_MAX = 2_000
_ASKED = ("event_type", "actor", "reason", "certainty")


class Examples:
    """Reads examples.

    Args:
        ask: queries the database.
        wall: returns seconds since 1970.
        show_recipients: do not mask addresses.
    """

    def __init__(self, ask: Asker, wall: Callable[[], float], show_recipients: bool) -> None:
        self._ask = ask
        self._wall = wall
        self._whole = show_recipients

    async def of(self, given: Mapping[str, str]) -> dict[str, Any]:
        """At most ``questions.EXAMPLES_MAX`` examples.

        Args:
            given: ``campaign``, ``period``, and the verdict: ``event_type``, ``actor``,
                ``reason`` and ``certainty``.

        Raises:
            BadInput: no such period, or a value is too long.
            Unavailable: the database does not answer.
        """
        campaign = given.get("campaign", "")
        verdict = {name: given.get(name, "") for name in _ASKED}
        too_long = any(len(value) > VALUE_CHARS_MAX for value in verdict.values())
        if too_long or len(campaign) > CAMPAIGN_CHARS_MAX:
            raise BadInput("bad_verdict", f"a value is longer than {VALUE_CHARS_MAX} characters")
        name = given.get("period") or period.DEFAULT
        stretch = period.parse(name, self._wall())
        parameters = {
            "campaign": campaign, "since": stretch.start_s, "until": stretch.until_s,
            "examples": questions.EXAMPLES_MAX, **verdict,
        }  # fmt: skip
        topic = (campaign, name, *verdict.values())
        rows = await self._ask(questions.EXAMPLES_OF_ONE, parameters, topic)
        return {"examples": [words.example(row, whole=self._whole) for row in rows]}
