"""What is written from the rules: the run-books' page and Kubernetes' object.

``python -m tests.alerting.pages`` writes ``kubernetes/rules.yaml``; ``python -m tests.readme`` the
page. ``tests/alerting/test_pages.py`` fails if one is stale.
"""

import re
from typing import Any

import yaml

from tests.alerting.judging import ALERTS, RULE_FILES
from tests.alerting.watching import RULES

KUBERNETES = RULES / "kubernetes" / "rules.yaml"
PAGE = "analytics/prometheus/README.md"
_HEAD = """# Written from the rules beside this folder by `python -m tests.alerting.pages`.
"""


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = ">" if len(value) > 60 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def groups() -> list[dict[str, Any]]:
    """The groups of all files."""
    return [
        group
        for name in RULE_FILES
        for group in yaml.safe_load((RULES / name).read_text("utf-8"))["groups"]
    ]


def prometheus_rule() -> str:
    """The object in which the Prometheus operator looks for rules."""
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mailpulse"},
        "spec": {"groups": groups()},
    }
    text = yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100)
    return _HEAD + text


def anchor(alert: str) -> str:
    """Of its run-book on the page."""
    return alert.lower()


def run_books() -> str:
    """A section for each alert: what it says, when it fires, what to do."""
    parts = []
    for name, rule in ALERTS.items():
        says = rule["annotations"]
        summary = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*the \1*", says["summary"])
        summary = re.sub(r"\{\{ \$value[^}]*\}\}", "*the share*", summary)
        parts.append(
            f"### {name}\n\n{summary[0].upper()}{summary[1:]} ({rule['labels']['severity']},"
            f" after {rule['for']})\n\n{_linked(says['runbook'])}\n"
        )
    return "\n".join(parts)


def _linked(text: str) -> str:
    """Commands as code, other alerts as links."""
    text = re.sub(r"«([^»]+)»", r"`\1`", text)
    known = {name.removeprefix("Mailpulse"): name for name in ALERTS}

    def link(found: re.Match[str]) -> str:
        return f"[{found[0]}](#{anchor(known[found[1]])})" if found[1] in known else found[0]

    return re.sub(r"\b(?:Mailpulse)?([A-Z][a-z]+(?:[A-Z][a-zA-Z]+)+)\b", link, text)


if __name__ == "__main__":
    KUBERNETES.write_text(prometheus_rule(), "utf-8")
