"""The broker's properties and command line."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from streams.broker.config import HEAP_MB, Node, argv, environ_of, properties, properties_text

NODE = Node(Path("/data/kafka"), 9001, 9002)


def unescaped(text: str) -> dict[str, str]:
    """Parses a properties file by java.util.Properties' rules, as far as we use them."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        plain, rest = "", value
        while rest:
            if rest.startswith("\\u"):
                plain, rest = plain + chr(int(rest[2:6], 16)), rest[6:]
            elif rest.startswith("\\"):
                plain, rest = plain + rest[1], rest[2:]
            else:
                plain, rest = plain + rest[0], rest[1:]
        found[name] = plain.encode("utf-16", "surrogatepass").decode("utf-16")
    return found


def test_everything_listens_on_this_machine_only() -> None:
    """Clients' listener, what is advertised, and the controller's (invariant 1)."""
    found = properties(NODE)
    for name in ("listeners", "advertised.listeners", "controller.quorum.voters"):
        for address in found[name].split(","):
            assert "127.0.0.1:" in address, name
    assert NODE.bootstrap == "127.0.0.1:9001"


def test_appends_are_flushed_and_topics_never_made_by_accident() -> None:
    """Invariants 2, 3 and 4."""
    found = properties(NODE)
    assert found["log.flush.interval.messages"] == "1"
    assert found["auto.create.topics.enable"] == "false"
    assert int(found["log.message.timestamp.after.max.ms"]) == 2**63 - 1


def test_one_node_asks_for_no_replicas() -> None:
    """Internal topics could not be created otherwise."""
    found = properties(NODE)
    factors = {value for name, value in found.items() if "replication.factor" in name}
    assert factors == {"1"}


def test_options_win_and_a_cluster_names_every_voter() -> None:
    """What tests and benches ask for."""
    node = Node(Path("/d"), 1, 2, {"num.io.threads": "9"}, node_id=2, voters={1: 7, 2: 2})
    found = properties(node)
    assert found["num.io.threads"] == "9"
    assert found["node.id"] == "2"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:7,2@127.0.0.1:2"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_value_survives_the_properties_file(value: str) -> None:
    """Umlauts, backslashes and line ends in a value don't break or change the file."""
    text = properties_text(Node(Path("/d"), 1, 2, {"thing": value}))
    assert text.isascii()
    assert unescaped(text)["thing"] == value


def test_command_line_is_bounded_and_fits_the_java() -> None:
    """Heap, class path and file; options of newer Javas are passed only to those."""
    line = argv(NODE, Path("/jdk/bin/java"), 17, "a.jar:b.jar")
    assert line[0] == "/jdk/bin/java"
    assert line[-2:] == ("kafka.Kafka", "/data/kafka/server.properties")
    assert f"-Xmx{HEAP_MB}m" in line
    assert "-XX:+ExitOnOutOfMemoryError" not in line  # its exit code means something else here
    assert not [option for option in line if option.startswith("--")]
    newer = argv(NODE, Path("/jdk/bin/java"), 25, "a.jar")
    assert "--enable-native-access=ALL-UNNAMED" in newer


def test_environment_keeps_java_options_of_others_out() -> None:
    """_JAVA_OPTIONS would override our heap size; a locale without UTF-8 would hide folders."""
    given_ = {"PATH": "/bin", "_JAVA_OPTIONS": "-Xmx9g", "CLASSPATH": "x", "LC_ALL": "C"}
    assert environ_of(given_) == {"PATH": "/bin", "LC_ALL": "C.UTF-8"}
