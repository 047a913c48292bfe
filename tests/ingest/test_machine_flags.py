"""What each provider's own flag on an open or click means: a prefetch, a proxy, or nothing.

Sources: the providers' pages, as named in their modules. A proxy that fetches when somebody looks
is no machine; a flag that is absent says nothing.
"""

from typing import Any

import pytest

from ingest.providers import generic, klaviyo, mailgun, sparkpost

GMAIL_PROXY = "Mozilla/5.0 (Windows NT 5.1) Firefox/11.0 (via ggpht.com GoogleImageProxy)"


@pytest.mark.parametrize(
    ("bot", "user_agent", "kind"),
    [
        ("apple", "Mozilla/5.0", "apple_mpp"), ("generic", "x", "scanner"),
        ("gmail", "Edge/12.246 Mozilla/5.0", "prefetch"), ("gmail", GMAIL_PROXY, "gmail_proxy"),
        ("gmail", "", "prefetch"), ("microsoft", "x", "unknown"),
        ("", GMAIL_PROXY, "none"), (None, "x", "none"), (7, "x", "none"),
    ],
)  # fmt: skip
def test_mailgun_names_the_bot(bot: object, user_agent: str, kind: str) -> None:
    """Values that its documentation does not list are machines of an unknown kind."""
    assert mailgun._machine(bot, user_agent) == kind


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"is_prefetched": True, "is_proxy": True, "agent_family": "Gmail"}, "prefetch"),
        ({"is_prefetched": False, "is_proxy": True, "agent_family": "Gmail"}, "gmail_proxy"),
        ({"is_prefetched": False, "is_proxy": True, "agent_family": "Yahoo"}, "none"),
        ({"is_prefetched": "true"}, "none"), ({}, "none"),
    ],
)  # fmt: skip
def test_sparkpost_tells_a_prefetch_from_a_proxy(
    flags: dict[str, Any], kind: str, nested: bool
) -> None:
    """In the event or in ``user_agent_parsed``; only its boolean counts."""
    agent = {"agent_family": flags.get("agent_family")}
    item = {name: value for name, value in flags.items() if name != "agent_family"}
    assert sparkpost._machine({} if nested else item, agent | (item if nested else {})) == kind


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ({"Apple Privacy Open": True, "Machine Open": True}, "apple_mpp"),
        ({"machine_open": True}, "apple_mpp"),
        ({"machine_open": True, "Apple Privacy Open": False}, "unknown"),
        ({"Bot Click": "true"}, "scanner"), ({"Bot Click": False}, "none"), ({}, "none"),
    ],
)  # fmt: skip
def test_klaviyo_tells_apple_from_other_machines(properties: dict[str, Any], kind: str) -> None:
    """Every Apple Privacy Open is a machine open, not the reverse."""
    assert klaviyo._machine(properties) == kind


@pytest.mark.parametrize(
    ("machine", "method", "kind"),
    [
        (None, "HEAD", "scanner"), (None, "head", "scanner"), ("human", "HEAD", "scanner"),
        (True, "GET", "unknown"), ("prefetch", None, "prefetch"), (None, "GET", "none"),
        (None, 7, "none"),
    ],
)  # fmt: skip
def test_a_generic_source_may_tell_the_method(machine: object, method: object, kind: str) -> None:
    """No browser sends HEAD for a clicked link (civicrm-core pull request 35328)."""
    assert generic._machine(machine, method) == kind
