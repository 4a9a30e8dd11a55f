"""Rules in a hurry, and rules without a Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.drill.drills import DRILLS, SITE
from deploy.drill.rules import Rule, Sample, hurry, seconds_of, shipped
from deploy.watch import files

PLACES = files.Places("127.0.0.1:9", "http://127.0.0.1:8", "", "")


def rule_of(alert: str, severity: str = "page") -> Rule:
    return next(rule for rule in shipped() if (rule.alert, rule.severity) == (alert, severity))


@pytest.mark.parametrize("name", DRILLS)
def test_the_alert_of_each_drill_is_shipped_and_can_be_judged_without_prometheus(name: str) -> None:
    drill = DRILLS[name](SITE)
    rules = [rule for rule in shipped() if rule.alert == drill.alert]
    assert rules
    for rule in rules:
        assert rule.holds_of([]) == []


def test_a_process_that_does_not_answer_makes_its_alert_true() -> None:
    up = [
        Sample("up", {"job": "pharmaloop", "process": "rnd"}, 1.0),
        Sample("up", {"job": "pharmaloop", "process": "loops"}, 0.0),
        Sample("up", {"job": "another", "process": "node"}, 0.0),
    ]
    assert [one.labels["process"] for one in rule_of("ServiceGone").holds_of(up)] == ["loops"]


def test_labels_are_matched_as_prometheus_does() -> None:
    letters = [
        Sample("pharmaloop_dead_letters_open", {"service": service}, value)
        for service, value in (("clinical", 2.0), ("traceability", 0.0), ("rnd", 1.0))
    ]
    page, ticket = rule_of("DeadLettersWait"), rule_of("DeadLettersWait", "ticket")
    assert [one.labels["service"] for one in page.holds_of(letters)] == ["clinical"]
    assert [one.labels["service"] for one in ticket.holds_of(letters)] == ["rnd"]
    told = page.note("summary", Sample("pharmaloop_dead_letters_open", {"runner": "fold"}, 2.0))
    assert told == "2 dead letter(s) of fold wait for somebody"


def test_the_hospital_is_told_where_there_is_one() -> None:
    labels = {"service": "clinical", "instance": "h:1"}
    gone = rule_of("ServiceGone")
    assert gone.note("summary", Sample("up", labels, 0.0)) == "clinical does not answer at h:1"
    of_site = Sample("up", {**labels, "site": "hospital-b"}, 0.0)
    assert gone.note("summary", of_site) == "clinical of hospital-b does not answer at h:1"


def test_what_only_prometheus_can_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="needs Prometheus"):
        rule_of("WorkFenced", "ticket").holds_of([])


def test_a_hurry_shortens_how_long_and_never_how_much(tmp_path: Path) -> None:
    files.write(tmp_path, PLACES, [])
    hurry(tmp_path)
    for rule in shipped():
        mine = [
            raw
            for file in (tmp_path / "alerting").iterdir()
            for group in yaml.safe_load(file.read_text())["groups"]
            for raw in group["rules"]
            if raw["alert"] == rule.alert and raw["expr"] == rule.expr
        ]
        assert len(mine) == 1, rule.alert
        assert seconds_of(mine[0].get("for", "0s")) == pytest.approx(rule.seconds / 10)
