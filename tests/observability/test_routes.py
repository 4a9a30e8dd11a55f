"""Who hears of an alert, as Alertmanager itself would route it."""

from __future__ import annotations

import pytest
import yaml

from tests.observability.conftest import ALERTMANAGER, ALERTS, Run


def receivers(run: Run, **labels: str) -> set[str]:
    told = [f"{name}={value}" for name, value in labels.items()]
    done = run("amtool", "config", "routes", "test", "--config.file", ALERTMANAGER, *told)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.strip().split(","))


def test_alertmanager_takes_the_file(run: Run) -> None:
    done = run("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "who"),
    [
        ({"severity": "page"}, {"pager"}),
        ({"severity": "ticket"}, {"tickets"}),
        ({"severity": "page", "site": "hospital-a"}, {"site", "pager"}),
        ({"severity": "ticket", "site": "hospital-b"}, {"site", "tickets"}),
        ({"severity": "unheard-of"}, {"tickets"}),
    ],
)
def test_severity_says_how_and_site_says_who_else(run: Run, labels: dict[str, str], who: set[str]) -> None:
    assert receivers(run, alertname="Any", **labels) == who


def test_every_alert_reaches_whom_its_severity_says(run: Run) -> None:
    for severity, who in (("page", "pager"), ("ticket", "tickets")):
        names = sorted({rule.name for rule in ALERTS if rule.severity == severity})
        for name in names[:: max(1, len(names) // 4)]:
            assert receivers(run, alertname=name, severity=severity) == {who}


def test_what_inhibits_and_what_is_inhibited_are_alerts_that_there_are() -> None:
    names = {rule.name for rule in ALERTS}
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            label, _, value = matcher.partition("=")
            if label == "alertname":
                assert set(value.lstrip("~").strip('"').split("|")) <= names


def test_nothing_keeps_a_recall_or_a_missing_patient_from_being_told() -> None:
    """An outage of a part may explain that runners wait; it never hides who is harmed by it."""
    (hidden,) = (
        rule["target_matchers"][0]
        for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
        if "DatabaseUnreachable" in rule["source_matchers"][0]
    )
    for name in ("RunStalled", "DigestMismatch", "PatientsNotTold", "DeadLettersWait", "OutboxBlocked"):
        assert name not in hidden
