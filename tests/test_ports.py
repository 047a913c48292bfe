"""Ports of live tests: no two of what asks for one are given the same."""

from itertools import combinations

from tests.live.process import RUNNERS_MAX, free_port, ports_of


def test_interpreters_of_one_run_share_no_port() -> None:
    """Two interpreters that find a port free at one moment would start two brokers on it."""
    ranges = [set(ports_of(f"gw{number}")) for number in range(RUNNERS_MAX)]
    assert all(ranges)
    assert not any(one & other for one, other in combinations(ranges, 2))


def test_a_port_is_handed_out_once() -> None:
    """A Kafka was once given the same port for its clients and its controller."""
    count = 300
    assert len({free_port() for _ in range(count)}) == count
