"""Lists of providers that lead elsewhere or never end."""

import asyncio
import json

import pytest

from streams.deliver.suppress import writer as writer_module
from streams.deliver.suppress.accounts import Account
from streams.deliver.suppress.exchange import Unreadable
from streams.deliver.suppress.writer import Writer
from tests.streams.test_suppress_writer import ADA, answered, whole


def _pages(name: str, link: str) -> bytes:
    """One page with an address and a link to the next."""
    body = {
        "mailgun": {"items": [{"address": ADA}], "paging": {"next": link}},
        "sparkpost": {"results": [{"recipient": ADA}], "links": {"next": link}},
        "ses": {"SuppressedDestinationSummaries": [{"EmailAddress": ADA}], "NextToken": link},
    }[name]
    return whole(200, json.dumps(body).encode(), "content-type: application/json")


@pytest.mark.parametrize("name", ["mailgun", "sparkpost"])
@pytest.mark.parametrize(
    "link", ["@127.0.0.1:1/x", ".evil.example/x", "//[", "http://[::1", "/a b", "/a\r\nx: y", "/é",
             "http://evil.example:99999999/\x00", "?x=1", ":1/x"],
)  # fmt: skip
def test_a_link_to_a_next_page_leads_nowhere_else(name: str, link: str) -> None:
    """Neither the key goes to another host, nor does the command end with a bug."""

    async def ask(writer: Writer, made: Account) -> str:
        with pytest.raises(Unreadable) as error:
            await writer.listed(made.rules.targets[0])
        return str(error.value)

    _, heads = asyncio.run(answered(name, [_pages(name, link)], ask))
    assert len(heads) in (1, 2)
    for head in heads[1:]:  # what is left of it is a path of the same host
        assert head.split(b"\r\n")[0].count(b" ") == 2


@pytest.mark.parametrize("name", ["mailgun", "sparkpost", "ses"])
@pytest.mark.parametrize("pages", [1, 3])
def test_pages_that_go_round_or_never_end_are_an_error(
    name: str, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an endless reading nor half a list."""
    monkeypatch.setattr(writer_module, "LIST_PAGES_MAX", 20)

    async def ask(writer: Writer, made: Account) -> str:
        with pytest.raises(Unreadable) as error:
            await writer.listed(made.rules.targets[0])
        return str(error.value)

    links = [f"/p?page={number % pages}" for number in range(30)]
    said, heads = asyncio.run(answered(name, [_pages(name, link) for link in links], ask))
    assert said == "its pages do not end"
    assert len(heads) == pages + 1
    links = [f"/p?page={number}" for number in range(30)]
    said, heads = asyncio.run(answered(name, [_pages(name, link) for link in links], ask))
    assert said == "its pages do not end"
    assert len(heads) == 20
