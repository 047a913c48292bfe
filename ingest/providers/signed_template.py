"""Templates of what a sender signs, such as ``{timestamp}.{body}``: whether they can be read twice.

Invariant: pure.
"""

import re

PART = re.compile(r"\{(body|timestamp|url|header:[A-Za-z0-9-]+)\}")


def ambiguities(template: str, counted: bool) -> list[str]:
    """One line per place where two parts touch, so that bytes could be moved between them.

    ``{timestamp}{body}`` is unambiguous if the time is a number whose age is checked: with a digit
    more or less it is decades off. ``{url}`` is always the same. Behind a body a time is not: zeros
    before a number do not change it.

    Args:
        counted: whether the time is such a number.
    """
    pieces = PART.split(template)
    parts, between = pieces[1::2], pieces[2:-1:2]
    return [
        f"nothing stands between {{{first}}} and {{{second}}}, so bytes could be moved from one "
        "to the other under the same signature; a text between them is needed, as in "
        "{timestamp}.{body}"
        for first, second, text in zip(parts[:-1], parts[1:], between, strict=True)
        if not (text or (counted and first == "timestamp") or "url" in (first, second))
    ]
