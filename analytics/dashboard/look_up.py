"""The page on which support staff look up what happened to one recipient's messages.

Invariants:
1. Only people who signed in may look up; where the dashboard has no sign-in, nobody may.
2. What is looked for comes in a form and is in no address, title or log line. Each look-up is
   logged, with who asked and a keyed hash of what was asked for, before its answer is sent.
3. Addresses are masked unless ``dashboard_show_recipients`` is set. Every text is escaped.
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import structlog
from starlette.responses import HTMLResponse, Response

from analytics.dashboard import html
from analytics.dashboard.access import Caller, Gate
from analytics.dashboard.asking import Query
from analytics.history.answer import History, history
from analytics.history.questions import ASKED_CHARS_MAX, DAYS_DEFAULT, DAYS_MAX, asked
from analytics.history.words import Words, moment
from schemas.errors import BadInput, Unavailable
from schemas.settings import Settings

ROWS_MAX = 500
"""Most events on the page: the newest."""
DAYS = (1, 7, 30, 90, 400)

log = structlog.get_logger("mailpulse.dashboard")


class LookUp:
    """The endpoint.

    Args:
        settings: ``recipients``, ``recipient_hash_key``, ``dashboard_show_recipients``.
        gate: who is signed in.
        query: queries the database.
        wall: returns seconds since 1970.
    """

    def __init__(
        self, settings: Settings, gate: Gate, query: Query, wall: Callable[[], float]
    ) -> None:
        self._mode = settings.recipients
        self._key = settings.recipient_hash_key.get_secret_value().encode()
        self._words = Words(whole=settings.dashboard_show_recipients)
        self._gate = gate
        self._query = query
        self._wall = wall

    async def answer(self, caller: Caller, form: Mapping[str, str] | None) -> Response:
        """The page; with the answer to a form."""
        if self._gate.open:
            return self._page(_NO_SIGN_IN, 403)
        if form is None:
            return self._page(_form("", DAYS_DEFAULT))
        text, days = form.get("who", ""), form.get("days", "")
        span = int(days) if days.isascii() and days.isdigit() and len(days) < 6 else DAYS_DEFAULT
        shown = _form(text[:ASKED_CHARS_MAX], span)
        try:
            wanted = asked(text, self._mode, self._key)
            now_s = self._wall()
            days_asked = min(max(1, span), DAYS_MAX)
            found = await history(wanted, self._ask, now_s, days_asked, ROWS_MAX)
        except BadInput as error:
            return self._page(shown + _problem(error.detail or error.reason), 400)
        except Unavailable as error:
            return self._page(shown + _problem(f"{error}. Try again."), 503)
        log.info(
            "looked up", operator=self._gate.user(caller), how="dashboard",
            identity_hash=wanted.logged, events=found.events,
        )  # fmt: skip
        return self._page(shown + self._result(found))

    async def _ask(self, sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await self._query(sql, given)

    def _page(self, content: str, status: int = 200) -> Response:
        page = html.document("Recipient · mailpulse", content, self._gate.has_token)
        return HTMLResponse(page, status, headers={"cache-control": "no-store"})

    def _result(self, found: History) -> str:
        words = self._words
        said = "".join(f"<p>{escape(line)}</p>" for line in words.answer(found))
        parts = [f'<section class="panel" aria-label="Answer">{said}</section>']
        for message in found.messages:
            rows = "".join(
                f'<tr><td class="when"><time>{moment(row["at_ms"])}</time></td>'
                f'<td><span class="badge {words.tone(row)}">{escape(str(row["event_type"]))}</span>'
                f"</td><td>{escape(words.sentence(row))}"
                + "".join(
                    f'<br><span class="diagnostic">{escape(detail)}</span>'
                    for detail in words.details(row)
                )
                + "</td></tr>"
                for row in message.events
            )
            parts.append(
                f'<section class="panel"><h2>{escape(words.summary(message).capitalize())}</h2>'
                f'<p class="sub url">{escape(words.title(message))}</p>'
                f"{_TABLE_HEAD}<tbody>{rows}</tbody></table></div></section>"
            )
        return "".join(parts)


_TABLE_HEAD = (
    '<div class="scroll" tabindex="0" role="region" aria-label="Events"><table class="course">'
    '<thead><tr><th scope="col">When</th><th scope="col">Event</th>'
    '<th scope="col">What happened</th></tr></thead>'
)
_NO_SIGN_IN = (
    '<section class="panel"><h1>Recipient</h1><p>Looking up recipients needs a sign-in: set'
    " <code>MAILPULSE_DASHBOARD_TOKEN</code> or <code>MAILPULSE_DASHBOARD_USER_HEADER</code>."
    " In a terminal: <code>mailpulse trace ADDRESS</code></p></section>"
)


def _form(text: str, days: int) -> str:
    options = "".join(
        f'<option value="{one}"{" selected" if one == days else ""}>{one} days</option>'
        for one in sorted({*DAYS, days})
    )
    return f"""\
<section class="panel"><h1>Recipient</h1>
<form method="post" action="{html.LOOK_UP[0]}" class="look-up">
<label for="who">Address or message id</label>
<input id="who" name="who" value="{escape(text)}" maxlength="{ASKED_CHARS_MAX}" required
 autocomplete="off" spellcheck="false">
<label for="days">Search back</label>
<select id="days" name="days">{options}</select>
<button>Look up</button>
</form>
<p class="sub">In any spelling. Each look-up is logged.</p></section>
"""


def _problem(text: str) -> str:
    return f'<p class="problem" role="alert">{escape(text)}</p>'
