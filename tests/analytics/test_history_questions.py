"""What is asked for: addresses, message ids, and what is refused."""

import pytest

from analytics.history.questions import ASKED_CHARS_MAX, Mode, asked
from schemas.errors import BadInput
from schemas.identity import address_identity
from schemas.masking import masked_recipient
from tests.analytics.test_history import ADDRESS, KEY
from tests.schemas.test_identity import SAME


@pytest.mark.parametrize("sign", "!#$%&'*+-/=?^_`{|}~.")
def test_nobody_else_is_found_in_an_address(sign: str) -> None:
    """Whatever stands in it: signs that part links, and what could be an escape."""
    for local in (f"x{sign}y", f"{sign}y", f"x{sign}", f"x{sign}41y", f"x{sign}{sign}y"):
        address = f"{local}@example.com"
        for text in (address, f"Somebody <{address}>", f"  <{address}> "):
            first, *others = asked(text, "plain", KEY).ways
            assert (first.kind, first.value) == ("address", address_identity(address)), text
            assert {way.kind for way in others} == {"message"}
            shown = masked_recipient(address)
            assert shown in ("***@example.com", f"{local.strip(sign)[:1]}***@example.com")


@pytest.mark.parametrize("mode", ["hashed", "dropped"])
@pytest.mark.parametrize("spellings", SAME, ids=lambda one: one[0])
def test_no_query_has_an_address_that_is_not_stored(mode: Mode, spellings: tuple[str, ...]) -> None:
    """In any spelling, with a name or in a link: ClickHouse logs what it is asked."""
    for one in spellings:
        for text in (one, f"Somebody <{one}>", f"mailto:{one}"):
            values = {way.value for way in asked(text, mode, KEY).ways}
            assert all(value.startswith("h:") for value in values), text
    assert ("address" in {way.kind for way in asked(ADDRESS, mode, KEY).ways}) == (mode == "hashed")


@pytest.mark.parametrize("text", ["", "  ", "x" * (ASKED_CHARS_MAX + 1), "a\0b"])
def test_nothing_and_too_much_are_refused(text: str) -> None:
    """With what may be asked for."""
    with pytest.raises(BadInput, match="message id"):
        asked(text, "plain", b"")
