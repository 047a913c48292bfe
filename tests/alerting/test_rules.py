"""Every alert fires when it must and is silent when it must be, as Prometheus itself judges."""

from pathlib import Path

import pytest

from tests.alerting.cases import CASES, HEALTHY, Case
from tests.alerting.judging import ALERTS, RULE_FILES, check, check_firing

ALWAYS = "MailpulseWatchdog"
WITHOUT_OBJECTIVES = tuple(name for name in RULE_FILES if name != "slo.yml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_these_alerts_fire(case: Case, tmp_path: Path) -> None:
    """All the other alerts look on."""
    files = RULE_FILES if "Budget" in case.of else WITHOUT_OBJECTIVES
    check_firing(case.series, case.firing, tmp_path, at_s=case.at * 60, files=files)


def test_every_alert_has_a_case_and_a_near_miss() -> None:
    """A new alert needs both."""
    for kind in (True, False):
        tried = {case.of for case in CASES if case.fires is kind}
        assert tried >= ALERTS.keys() - {ALWAYS}, kind
    assert {name for case in CASES for name in case.firing} == ALERTS.keys()


def test_an_alert_names_what_it_is_about(tmp_path: Path) -> None:
    """Labels of its series are in its text: no «no value»."""
    name = "MailpulseDestinationDown"
    [case] = [one for one in CASES if one.of == name and one.fires]
    rule = ALERTS[name]
    summary = rule["annotations"]["summary"].replace("{{ $labels.destination }}", "crm")
    told = {
        "exp_labels": {**rule["labels"], "destination": "crm"},
        "exp_annotations": {**rule["annotations"], "summary": summary},
    }
    one = {"eval_time": "40m", "alertname": name, "exp_alerts": [told]}
    check(case.series, {}, tmp_path, at_s=2_400, more={"alert_rule_test": [one]})


def test_a_failing_expectation_fails(tmp_path: Path) -> None:
    """The harness is no rubber stamp."""
    with pytest.raises(AssertionError, match="MailpulseNoEvents"):
        check_firing(HEALTHY, ["MailpulseNoEvents"], tmp_path, at_s=600)
