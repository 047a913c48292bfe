"""Recipients hashed or dropped: what an event and a dead letter keep of them."""

import json
from typing import Any, Literal

import pytest

from ingest.privacy import DROPPED, Privacy
from ingest.providers.items import IP_CHARS_MAX, NATIVE_TYPE_CHARS_MAX
from schemas.address_search import CUTS_CHARS
from schemas.event import ID_CHARS_MAX, TEXT_CHARS_MAX, Event
from schemas.identity import address_identity
from tests.builders import event
from tests.spellings import ADDRESSES, CANARY, CODINGS, KNOWN_ONLY, traces

KEY = b"a key of this test"
Mode = Literal["hashed", "dropped"]
MODES: tuple[Mode, ...] = ("hashed", "dropped")


def with_texts(recipient: str | None, text: str) -> Event:
    """An event that has ``text`` in every field that a provider fills with text."""
    return event(
        recipient=recipient, click_url=text, diagnostic=text, campaign_id=text, batch_id=text,
        user_agent=text, native_type=text, tags=[text, f"t {text}"],
        metadata={text: text, "a": text}, message_id=text, rfc_message_id=text,
        suppression_scope=text,
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CODINGS)
def test_a_recipient_is_in_no_text_of_its_event(name: str, mode: Mode) -> None:
    """In any coding, and in what is no ordinary address."""
    for address in (*ADDRESSES, *KNOWN_ONLY):
        made = with_texts(address, CODINGS[name](address))
        Privacy(mode, KEY).apply(made)
        assert not traces(json.dumps(made, ensure_ascii=False)), address


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CODINGS)
def test_another_address_is_in_no_text_of_an_event(name: str, mode: Mode) -> None:
    """Of a copy's recipient, or in an event without a recipient; an id may look like one."""
    for address in ADDRESSES:
        made = with_texts(None, CODINGS[name](address))
        made["message_id"] = made["rfc_message_id"] = "m1@sender.example"
        Privacy(mode, KEY).apply(made)
        assert not traces(json.dumps(made, ensure_ascii=False)), address
        assert made["message_id"] == "m1@sender.example"


def test_a_hash_in_a_text_is_that_of_the_recipient() -> None:
    """However it is written there."""
    privacy = Privacy("hashed", KEY)
    wanted = privacy.hash("ada@example.com")
    for name, coding in CODINGS.items():
        made = event(recipient="Ada@example.com", tags=[coding("ada@example.com")])
        privacy.apply(made)
        assert made["recipient"] == wanted
        assert wanted in made["tags"][0], name


def test_every_length_at_which_fields_are_cut_is_known() -> None:
    """Texts of these lengths may end within an address."""
    cuts = (IP_CHARS_MAX, NATIVE_TYPE_CHARS_MAX, ID_CHARS_MAX, TEXT_CHARS_MAX)
    assert cuts == CUTS_CHARS


@pytest.mark.parametrize("limit", [TEXT_CHARS_MAX, ID_CHARS_MAX])
def test_half_an_address_at_a_cut_is_removed(limit: int) -> None:
    """A text is cut at its limit, perhaps within an address."""
    text = ("a " * limit)[: limit - len(CANARY) - 5] + f" {CANARY}@mai"
    for recipient in (None, f"{CANARY}@mailbox.example"):
        made = event(recipient=recipient, diagnostic=text[:limit].ljust(limit, "l"))
        Privacy("dropped").apply(made)
        assert CANARY not in str(made)
        assert len(made["diagnostic"] or "") > limit - 340


def body(address: str) -> dict[str, Any]:
    """What a provider sends."""
    return {"to": address, "n": 1.50, "said": f"550 <{address}> unknown\n", "domain": "@a.example"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_dead_letter_can_be_read_again(address: str, mode: Mode, ascii_only: bool) -> None:
    """It is JSON with other addresses; clearing it again changes nothing."""
    privacy = Privacy(mode, KEY)
    content = json.dumps(body(address), ensure_ascii=ascii_only).encode()
    cleared = privacy.clear_bytes(content)
    read = json.loads(cleared)
    assert not traces(cleared.decode())
    assert read.keys() == body(address).keys()
    assert (read["n"], read["domain"]) == (1.5, "@a.example")
    assert privacy.clear_bytes(cleared) == cleared


def test_a_dead_letter_sent_again_is_of_the_same_recipient() -> None:
    """Its events have the key that they would have had at first, and the domain."""
    privacy = Privacy("hashed", KEY)
    cleared = json.loads(privacy.clear_bytes(json.dumps(body("Ada@B\u00fccher.example")).encode()))
    again = event(recipient=cleared["to"], recipient_domain="b\u00fccher.example")
    privacy.apply(again)
    assert again["recipient"] == privacy.hash("ada@xn--bcher-kva.example")
    assert again["recipient_identity"] == again["recipient"]
    assert again["recipient_domain"] == "b\u00fccher.example"


def test_only_a_whole_hash_is_taken_for_one() -> None:
    """An address that begins like one is hashed."""
    for address in ("h:ada@example.com", f"h:{'0' * 63}@example.com", "h:"):
        made = event(recipient=address)
        Privacy("hashed", KEY).apply(made)
        assert made["recipient"] == Privacy("hashed", KEY).hash(address)


def test_a_form_keeps_its_fields() -> None:
    """Names, order and other values."""
    content = b"event=bounced&email=ada%2Bnews%40example.com&note=a%20b"
    assert Privacy("dropped").clear_bytes(content) == (
        b"event=bounced&email=dropped%40example.com&note=a%20b"
    )
    nested = b"events=%5B%7B%22email%22%3A%22ada%40example.com%22%2C%22n%22%3A1%7D%5D"
    assert Privacy("dropped").clear_bytes(nested) == nested.replace(b"ada", b"dropped")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe ada@example.com \xff", b"\x00" * 9, b"@\xc3"])
def test_bytes_that_are_no_text_stay(content: bytes) -> None:
    """All but the address."""
    cleared = Privacy("dropped").clear_bytes(content)
    assert cleared == content.replace(b"ada", b"dropped")


def test_plain_is_left_alone() -> None:
    """Byte for byte."""
    made = with_texts("ada@example.com", "ada@example.com")
    before = json.dumps(made)
    Privacy("plain").apply(made)
    assert json.dumps(made) == before
    assert Privacy("plain").clear_bytes(b"ada@example.com") == b"ada@example.com"
    assert address_identity("ada@example.com") in before
    assert DROPPED not in before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CODINGS)
def test_a_text_as_long_as_a_cut_is_searched_as_a_whole(name: str, mode: Mode) -> None:
    """Whatever stands before the address, so that the text may have been cut within it."""
    for address in ADDRESSES:
        coded = CODINGS[name](address)
        for size in CUTS_CHARS[:2]:
            for behind in ("", " x"):
                before = "Test bounce details "[: max(0, size - len(coded) - len(behind))]
                text = (before.rjust(size - len(coded) - len(behind), "a") + coded + behind)[:size]
                if not text.startswith(coded) and before.endswith(" "):
                    made = event(recipient=None, diagnostic=text, tags=[text])
                    Privacy(mode, KEY).apply(made)
                    assert not traces(json.dumps(made, ensure_ascii=False)), text
