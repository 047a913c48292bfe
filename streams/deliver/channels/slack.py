"""Messages for Slack's incoming webhooks.

An incoming webhook can neither change a message nor answer in its thread: escalation and easing are
new, short messages that name the incident's beginning.

Invariants:
1. Pure. Texts from outside are ``plain_text``, which Slack shows as it is; in ``text``, which it
   reads for notifications, ``& < >`` are escaped, so nobody is mentioned.
2. No text is longer than Slack takes.

Source: https://docs.slack.dev/tools/python-slack-sdk/webhook; Slack's «Formatting message text» and
«Block Kit» (a header has 150 characters, a section 3,000).
"""

from typing import Any

from streams.deliver.channels.messages import TEXT_CHARS_MAX, Message, filled

HEADER_CHARS_MAX = 150
SECTION_CHARS_MAX = 3_000
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def escaped(text: str) -> str:
    """A text that Slack shows as it is."""
    return text.translate(_ESCAPES)


def document(message: Message, template: str = "") -> dict[str, Any]:
    """The JSON that is posted."""
    lines = message.lines if message.first or message.over else message.lines[:2]
    text = filled(template, message) if template else "\n".join(lines)
    blocks = [] if template else [_block("header", message.title[:HEADER_CHARS_MAX])]
    blocks.append(_block("section", text[:TEXT_CHARS_MAX] or "–"))
    if message.link and not template:
        link = escaped(message.link).replace("|", "%7C")
        told = f"<{link}|Open the dashboard>"
        # a link that is cut leads nowhere, and Slack refuses the message with a longer one
        if len(told) <= SECTION_CHARS_MAX:
            blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": told}})
    return {
        "text": escaped(message.title), "blocks": blocks,
        "unfurl_links": False, "unfurl_media": False,
    }  # fmt: skip


def _block(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": {"type": "plain_text", "text": text, "emoji": False}}
