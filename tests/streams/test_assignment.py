"""The assignment: balanced, complete, and close to the state."""

from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streams.transport.assignment import ClaimAssignor, assign
from streams.transport.chunks import TP

TOPICS = ("minutes", "raw")
MEMBERS = st.sets(st.sampled_from("abcdefg"), min_size=1)
SIZES = st.fixed_dictionaries({topic: st.integers(0, 9) for topic in TOPICS})
ANY_TP = st.builds(TP, st.sampled_from(TOPICS), st.integers(0, 9))
CLAIMS = st.fixed_dictionaries({m: st.dictionaries(ANY_TP, st.integers(0, 5)) for m in "abcdefg"})


def everyone(members: set[str]) -> dict[str, list[str]]:
    return {member: list(TOPICS) for member in members}


def numbers(sizes: dict[str, int]) -> dict[str, range]:
    return {topic: range(size) for topic, size in sizes.items()}


@given(members=MEMBERS, sizes=SIZES, claims=CLAIMS)
def test_every_partition_has_one_reader_and_topics_are_even(
    members: set[str], sizes: dict[str, int], claims: dict[str, dict[TP, int]]
) -> None:
    """Whatever is claimed: every partition is read once, and no member has two more of a topic than
    another."""
    dealt = assign(numbers(sizes), everyone(members), claims)
    given_out = Counter(tp for tps in dealt.values() for tp in tps)
    assert given_out == Counter(TP(t, n) for t, size in sizes.items() for n in range(size))
    for topic in TOPICS:
        counts = [sum(tp.topic == topic for tp in dealt[member]) for member in members]
        assert max(counts) - min(counts) <= 1


@given(members=MEMBERS, sizes=SIZES, claims=CLAIMS)
def test_nothing_moves_when_nobody_comes_or_goes(
    members: set[str], sizes: dict[str, int], claims: dict[str, dict[TP, int]]
) -> None:
    """The worker that reads a partition has the newest state, and keeps it."""
    before = assign(numbers(sizes), everyone(members), claims)
    ahead = {m: {**claims[m], **dict.fromkeys(before[m], 100)} for m in members}
    assert assign(numbers(sizes), everyone(members), ahead) == before


@given(members=MEMBERS, size=st.integers(1, 9), leaver=st.booleans())
def test_no_more_moves_than_evenness_asks_for(members: set[str], size: int, leaver: bool) -> None:
    """If a worker leaves or joins, the others keep as many partitions as balance allows."""
    sizes = {"raw": size, "minutes": 0}
    before = assign(numbers(sizes), everyone(members), {})
    after_members = members - {min(members)} if leaver and len(members) > 1 else members | {"z"}
    held = {m: dict.fromkeys(before.get(m, []), 1) for m in after_members}
    after = assign(numbers(sizes), everyone(after_members), held)
    fewest = size // len(after_members)
    for member in members & after_members:
        lost = set(before[member]) - set(after[member])
        assert not lost or len(after[member]) >= fewest
        gained = set(after[member]) - set(before[member])
        assert not (lost and gained)


def test_the_state_that_reaches_furthest_wins() -> None:
    """If two workers have state of the same partition, the older one is out of date."""
    claims = {"a": {TP("raw", 0): 5}, "b": {TP("raw", 0): 9}}
    dealt = assign({"raw": [0]}, {"a": ["raw"], "b": ["raw"]}, claims)
    assert dealt == {"a": [], "b": [TP("raw", 0)]}


def test_what_does_not_divide_evenly_is_spread_over_topics() -> None:
    """One partition each of two topics and two workers: one each, not both for one."""
    both = everyone({"a", "b"})
    dealt = assign({"raw": [0], "minutes": [0]}, both, {})
    assert sorted(len(tps) for tps in dealt.values()) == [1, 1]


def test_a_member_gets_only_what_it_reads() -> None:
    """Workers may run one stage each."""
    dealt = assign(
        {"raw": [0, 1], "minutes": [0]}, {"a": ["raw"], "b": ["minutes"]}, {"b": {TP("raw", 0): 9}}
    )
    assert dealt == {"a": [TP("raw", 0), TP("raw", 1)], "b": [TP("minutes", 0)]}


def test_claims_travel_through_kafka_s_protocol() -> None:
    """Encoded as aiokafka sends them, decoded as the leader reads them; rubbish is not a claim."""
    assignor = ClaimAssignor()
    assignor.claims = {TP("raw", 1): 70}
    sent = assignor.metadata(["raw"])
    decoded = type(sent).decode(sent.encode())
    stranger = type(sent)(0, ["raw"], b"{}}")
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0, 1})
    dealt = assignor.assign(cluster, {"x": decoded, "a": stranger})
    assert dealt["x"].assignment == [("raw", [1])]
    assert dealt["a"].assignment == [("raw", [0])]
