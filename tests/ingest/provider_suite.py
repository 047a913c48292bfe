"""The security suite that every provider goes through, and what it is built from.

Invariants:
1. A provider is only known by its interface: requests come from ``sample``, keys from ``keys``.
2. A changed request may pass only where the change is none by the provider's own rules
   (``EQUIVALENT``): white space between signatures, the case of ``Basic``, unsigned fields.
3. Refusing means ``SignatureError``, or asking for another certificate; any other exception fails.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qsl

import orjson
import pytest

from ingest.providers import REGISTRY
from ingest.providers.base import Provider, Request
from ingest.providers.items import read_form, read_json
from ingest.providers.preset import Preset
from ingest.providers.sns import TYPES
from ingest.verify import NeedsCertificate, SignatureError
from schemas.errors import BadInput
from tests.ingest.keys import Example, example, rotated

NOW = 1_795_521_600
"""2026-11-24 12:00 UTC, in seconds."""
RECEIVED_AT = NOW * 1_000_000
PLAIN_HEADERS = ("content-type", "user-agent")
"""Headers of a sample that prove nothing."""


def accepted(provider: Provider, request: Request, one: Example, **source: object) -> bool:
    """Whether the request is taken for the provider's, with some fields of the source changed."""
    configured = one.source.model_copy(update=source)
    try:
        provider.verify(request, configured, NOW, one.certificates)
        provider.verify_content(request, configured)
    except (SignatureError, NeedsCertificate):
        return False
    return True


def with_header(request: Request, target: str, value: str | None) -> Request:
    """The request with another value of one header; ``None`` leaves the header out."""
    changed = ((name, value if name == target else old) for name, old in request.headers)
    return replace(request, headers=tuple((n, v) for n, v in changed if v is not None))


def proof_headers(request: Request) -> list[str]:
    """Names of the headers that prove something."""
    return [name for name, _ in request.headers if name not in PLAIN_HEADERS]


def flip(value: bytes, bit: int) -> bytes:
    """``value`` with one bit turned over."""
    place, offset = divmod(bit % (len(value) * 8), 8)
    return value[:place] + bytes([value[place] ^ (1 << offset)]) + value[place + 1 :]


# --- changes that are none -----------------------------------------------------------------------


def _scheme_case(a: Request, b: Request) -> bool:
    """The name of an authentication scheme has no case (RFC 9110 §11.1)."""

    def plain(request: Request) -> tuple[str, str, str]:
        scheme, space, rest = (request.header("authorization") or "").partition(" ")
        return scheme.lower(), space, rest

    return plain(a) == plain(b)


def _signature_list(a: Request, b: Request) -> bool:
    """Standard Webhooks: one good signature among several is enough."""
    for name in proof_headers(a):
        ours, theirs = a.header(name) or "", b.header(name) or ""
        good = ours in theirs.split(" ") if name.endswith("signature") else ours == theirs
        if not good:
            return False
    return a.body == b.body


def _json_fields(*names: str) -> Callable[[Request, Request], bool]:
    """The signed fields of a JSON body are the same, in value; white space and the rest may not."""

    def same(a: Request, b: Request) -> bool:
        try:
            ours, theirs = read_json(a.body), read_json(b.body)
        except BadInput:
            return False
        return isinstance(theirs, dict) and all(ours.get(n) == theirs.get(n) for n in names)

    return same


def _form(a: Request, b: Request) -> bool:
    """The same form, written with other escapes; the signature itself untouched."""
    return read_form(a.body) == read_form(b.body) and a.headers == b.headers


def _prefixed(a: Request, b: Request) -> bool:
    """``sha256=`` before a signature says nothing."""

    def plain(request: Request) -> list[str]:
        return [value.removeprefix("sha256=") for _, value in request.headers]

    return plain(a) == plain(b) and a.body == b.body


def _same_token(a: Request, b: Request) -> bool:
    """The token in the query is the same; what else stands there says nothing."""

    def token(request: Request) -> list[str]:
        try:
            pairs = parse_qsl(request.query, max_num_fields=100)
        except ValueError:
            return []
        return [value for name, value in pairs if name in ("token", "secret")]

    return token(a) == token(b)


def _same_headers(a: Request, b: Request) -> bool:
    """Everything that proves is in the headers."""
    return a.headers == b.headers


EQUIVALENT: dict[str, Callable[[Request, Request], bool]] = {
    "standard_webhooks": _signature_list,
    "resend": _signature_list,
    "loops": _signature_list,
    "generic": _prefixed,
    "mailgun": _json_fields("signature"),
    "mandrill": _form,
    "preset:mailomat": _same_headers,
    **{name: _same_token for name, one in REGISTRY.items()
       if isinstance(one, Preset) and str(one.mapping.get("token")).startswith("query:")},
    "ses": _json_fields(*TYPES["Notification"], "Signature", "SignatureVersion", "SigningCertURL"),
}  # fmt: skip
"""Provider -> whether a changed request says the same in what is signed; others: never.

Providers with ``authorization`` headers get ``_scheme_case`` without a line here.
"""


def says_the_same(name: str, original: Request, changed: Request) -> bool:
    """Invariant 2."""
    if name in EQUIVALENT:
        return EQUIVALENT[name](original, changed)
    if "authorization" in proof_headers(original):
        return _scheme_case(original, changed) and (
            REGISTRY[name].signs == "nothing" or original.body == changed.body
        )
    proofs = [[r.header(h) for h in proof_headers(original)] for r in (original, changed)]
    same_body = REGISTRY[name].signs == "nothing" or original.body == changed.body
    return proofs[0] == proofs[1] and same_body and original.query == changed.query


# --- random changes ------------------------------------------------------------------------------


def _change_bytes(value: bytes, dice: random.Random) -> bytes:
    how = dice.randrange(5)
    place = dice.randrange(len(value) + 1)
    if how == 0 and value:
        return flip(value, dice.randrange(len(value) * 8))
    if how == 1:
        return value[:place] + bytes([dice.randrange(256)]) + value[place:]
    if how == 2:
        return value[:place] + value[place + 1 :]
    if how == 3:
        return value[:place]
    other = dice.randrange(len(value) + 1)
    low, high = min(place, other), max(place, other)
    return value[:low] + value[low:high][::-1] + value[high:]


def mutations(request: Request, count: int, dice: random.Random) -> Iterator[Request]:
    """Requests that differ from a good one by a random change of one header, query or body."""
    names = proof_headers(request)
    for _ in range(count):
        target = dice.choice([*names, "body", *(["query"] if request.query else [])])
        if target == "body":
            yield replace(request, body=_change_bytes(request.body, dice))
        elif target == "query":
            changed = _change_bytes(request.query.encode(), dice)
            yield replace(request, query=changed.decode("latin-1"))
        else:
            value = (request.header(target) or "").encode("latin-1")
            text = _change_bytes(value, dice).decode("latin-1")
            yield with_header(request, target, text)


# --- the suite -----------------------------------------------------------------------------------


class ProviderSuite:
    """Subclass it and parametrise ``name`` over the providers."""

    @pytest.fixture
    def provider(self, name: str) -> Provider:
        return REGISTRY[name]

    @pytest.fixture
    def one(self, name: str) -> Example:
        return example(name)

    @pytest.fixture
    def request_(self, provider: Provider, one: Example) -> Request:
        return provider.sample(one.source, NOW, 1, one.signing_key)

    def test_a_correctly_signed_request_is_accepted(
        self, provider: Provider, one: Example, request_: Request
    ) -> None:
        """Without this the refusals below would prove nothing."""
        assert accepted(provider, request_, one)

    def test_a_missing_proof_is_refused(
        self, provider: Provider, one: Example, request_: Request
    ) -> None:
        """Neither without all of the headers that prove something nor without one of them."""
        for gone in proof_headers(request_):
            assert not accepted(provider, with_header(request_, gone, None), one)
        bare = replace(request_, headers=(), query="")
        if proof_headers(request_) or request_.query:
            assert not accepted(provider, bare, one)

    def test_a_wrong_truncated_or_flipped_proof_is_refused(
        self, name: str, provider: Provider, one: Example, request_: Request
    ) -> None:
        """Every header that proves something: cut short, emptied, replaced, each bit turned."""
        for target in proof_headers(request_):
            value = (request_.header(target) or "").encode("latin-1")
            broken = [b"", value[:-1], value[1:], value[: len(value) // 2], b"x" * len(value)]
            broken += [flip(value, bit) for bit in range(len(value) * 8)]
            for bad in broken:
                text = bad.decode("latin-1")
                changed = with_header(request_, target, text)
                if not says_the_same(name, request_, changed):
                    assert not accepted(provider, changed, one), (target, text)

    def test_another_key_is_refused(self, name: str, provider: Provider, one: Example) -> None:
        """A stranger who signs correctly, with a key that is not configured."""
        other = example(name, 7)
        request = provider.sample(other.source, NOW, 1, other.signing_key)
        assert accepted(provider, request, other)
        assert not accepted(provider, request, one)

    def test_no_configured_key_means_no_entry(
        self, provider: Provider, one: Example, request_: Request
    ) -> None:
        """A source whose keys are gone refuses everything; so does one with an empty secret."""
        for wanted in provider.required:
            field = wanted.split("|", maxsplit=1)[0]
            empty: object = "" if field == "public_url" else ()
            assert not accepted(provider, request_, one, **{field: empty})
            assert provider.check(one.source.model_copy(update={field: empty}))

    def test_a_changed_body_is_refused(
        self, name: str, provider: Provider, one: Example, request_: Request
    ) -> None:
        """One byte changed, a line end added, rewritten by a JSON library, or empty."""
        if provider.signs == "nothing":
            return  # such a provider proves the sender only; the table says so
        bodies = [flip(request_.body, bit) for bit in range(0, len(request_.body) * 8, 3)]
        if provider.signs == "raw body":
            bodies += [request_.body + b"\n", request_.body + b"\r\n", b" " + request_.body]
            bodies += [request_.body.rstrip(), request_.body[:-1]]
            try:
                loose = orjson.dumps(orjson.loads(request_.body), option=orjson.OPT_INDENT_2)
                bodies.append(loose)
            except ValueError:
                pass  # a form or JSON Lines: the other changes do
        bodies.append(b"")
        for body in bodies:
            changed = replace(request_, body=body)
            if body != request_.body and not says_the_same(name, request_, changed):
                assert not accepted(provider, changed, one), body

    def test_a_header_given_twice_is_refused(
        self, provider: Provider, one: Example, request_: Request
    ) -> None:
        """Which of two would count is a guess; even two equal ones are refused."""
        for target in proof_headers(request_):
            value = request_.header(target) or ""
            for extra in (value, "x"):
                doubled = replace(request_, headers=(*request_.headers, (target, extra)))
                assert not accepted(provider, doubled, one), target

    def test_a_stale_or_future_time_is_refused(self, provider: Provider, one: Example) -> None:
        """Signed correctly, but too long ago, or ahead of the clock; just inside passes."""
        limit = provider.tolerance_s
        if limit == 0:
            return  # no time is signed; the table says so
        for age, good in ((limit - 1, True), (limit + 2, False), (-298, True), (-302, False)):
            request = provider.sample(one.source, NOW - age, 1, one.signing_key)
            assert accepted(provider, request, one) is good, age

    def test_a_source_can_narrow_the_tolerance(self, provider: Provider, one: Example) -> None:
        """``tolerance_s`` of the source wins over the provider's."""
        if provider.tolerance_s == 0:
            return  # no time is signed; the table says so
        request = provider.sample(one.source, NOW - 20, 1, one.signing_key)
        assert accepted(provider, request, one, tolerance_s=30)
        assert not accepted(provider, request, one, tolerance_s=10)

    def test_both_keys_pass_while_they_rotate(self, name: str, provider: Provider) -> None:
        """With two keys configured, requests signed by either pass, by a third not."""
        both, old = rotated(name)
        for signer in (both, old):
            request = provider.sample(signer.source, NOW, 1, signer.signing_key)
            assert accepted(provider, request, both)
        third = example(name, 9)
        request = provider.sample(third.source, NOW, 1, third.signing_key)
        assert not accepted(provider, request, both)

    def test_the_sample_is_one_event(
        self, provider: Provider, one: Example, request_: Request
    ) -> None:
        """What ``send-test`` sends can be read, is timely, and differs by its number only."""
        parsed = provider.parse(request_, one.source, RECEIVED_AT)
        assert [len(parsed.events), len(parsed.rejects)] == [1, 0]
        event = parsed.events[0]
        assert event["event_type"] != "unknown"
        assert not event["time_suspect"]
        again = provider.parse(
            provider.sample(one.source, NOW, 1, one.signing_key), one.source, RECEIVED_AT + 5
        ).events[0]
        other = provider.parse(
            provider.sample(one.source, NOW, 2, one.signing_key), one.source, RECEIVED_AT
        ).events[0]
        assert event["event_id"] == again["event_id"] != other["event_id"]

    def test_an_id_is_the_accounts_not_the_endpoints(
        self, provider: Provider, one: Example, request_: Request
    ) -> None:
        """Two hooks for one account see the same event; two accounts never do."""

        def identity(received_at: int, **changed: object) -> str:
            source = one.source.model_copy(update=changed)
            return provider.parse(request_, source, received_at).events[0]["event_id"]

        here = identity(RECEIVED_AT)
        assert identity(RECEIVED_AT + 9_000_000, name="another", campaign_from=()) == here
        assert identity(RECEIVED_AT, account="another") != here

    def test_a_good_configuration_has_no_problems(self, provider: Provider, one: Example) -> None:
        """``check`` finds nothing wrong with a source that works."""
        assert provider.check(one.source) == []

    def test_a_request_is_proven_anew_by_another_key(
        self, name: str, provider: Provider, one: Example, request_: Request
    ) -> None:
        """For captures: by the keys of another source, with nothing but its proof changed."""
        other = example(name, 7)
        if name == "ses":
            content = orjson.loads(request_.body)
            content["SigningCertURL"] = next(iter(other.certificates))
            request_ = replace(request_, body=orjson.dumps(content))
        again = provider.resigned(request_, other.source, other.signing_key)
        assert accepted(provider, again, other)
        assert not accepted(provider, again, one)
        assert [name for name, _ in again.headers] == [name for name, _ in request_.headers]
        if name not in ("ses", "mailgun", "unisender_go"):
            assert again.body == request_.body
        before, after = (provider.parse(r, one.source, RECEIVED_AT) for r in (request_, again))
        assert before == after
