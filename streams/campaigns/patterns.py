"""Patterns of campaign ids in ``mailpulse.toml``. Pure."""

import re
from functools import lru_cache


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> re.Pattern[str]:
    """``*`` is any text, ``?`` one character, all else as it is; for ``fullmatch``.

    Not as in a shell: ids such as ``[A/B] spring`` are common.
    """
    wild = {"*": ".*", "?": "."}
    text = "".join(wild.get(one) or re.escape(one) for one in pattern)
    return re.compile(text, re.DOTALL)
