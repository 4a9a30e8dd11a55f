"""Alert and recording rules: they parse, fire when they should, name what exists, and lead somewhere."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from deploy.watch import slo
from services.kit.runners.decider import _MAX_WAITING
from tests.observability.conftest import ALERTS, PROMETHEUS, RECORDED, RULE_TESTS, Rule, Run
from tests.observability.promql import KNOWN, OF_COUNTERS, OF_TARGETS, grouped_by, selectors

TESTS = sorted(RULE_TESTS.glob("*_test.yaml"))
RULES = [*ALERTS, *RECORDED]
RECORDED_NAMES = {rule.name for rule in RECORDED}


def test_promtool_takes_every_file(run: Run) -> None:
    files = sorted(PROMETHEUS.glob("*/*.rules.yaml"))
    done = run("promtool", "check", "rules", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(files) == len(list(PROMETHEUS.glob("*/*.yaml"))), "a file that nobody would load"


@pytest.mark.req("N5")
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(run: Run, file: Path) -> None:
    done = run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.req("N5")
def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    told: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            found = re.fullmatch(r"(\w+) (fires|is silent) \((\w+)\)(: .+)?", test["name"])
            if found is None:
                continue
            alert, what, severity, why = found.groups()
            (case,) = test["promql_expr_test"]
            asked = f'ALERTS{{alertname="{alert}",alertstate="firing",severity="{severity}"'
            assert asked in case["expr"]
            # Silent all the time, and not just again.
            assert ("count_over_time" in case["expr"]) == (what == "is silent")
            assert bool(case["exp_samples"]) == (what == "fires"), test["name"]
            assert bool(why) == (what == "is silent"), "say why it need not fire"
            told[what].add((alert, severity))
    wanted = {(rule.name, rule.severity) for rule in ALERTS}
    assert told["fires"] == told["is silent"] == wanted


@pytest.mark.req("N5")
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_names_metrics_of_the_registry_and_labels_that_they_have(rule: Rule) -> None:
    named = selectors(rule.expr)
    assert named
    having: set[str] = set(OF_TARGETS)
    for one in named:
        if one.name in RECORDED_NAMES:
            having |= {label for made in RECORDED if made.name == one.name for label in grouped_by(made.expr)}
            continue
        assert one.name in KNOWN, f"{one.name} is in no registry"
        series = KNOWN[one.name]
        assert one.labels <= series.labels, f"{one.name} has no {one.labels - series.labels}"
        assert (one.function in OF_COUNTERS) == series.rises, f"{one.function}({one.name})"
        having |= series.labels
    assert grouped_by(rule.expr) <= having


def test_expressions_that_name_what_is_not_there_would_be_found() -> None:
    (one,) = selectors('sum by (lot) (rate(pharmaloop_dead_leters_total{runer="x"}[5m]))')
    assert one.name not in KNOWN
    assert (one.function, one.labels) == ("rate", frozenset({"runer"}))
    assert grouped_by("sum by (lot) (x)") == {"lot"}
    with pytest.raises(ValueError, match="unclosed"):
        selectors("sum by (lot")


@pytest.mark.parametrize("rule", ALERTS, ids=str)
def test_an_alert_says_what_happened_and_what_somebody_loses(rule: Rule) -> None:
    told = rule.annotations
    assert set(told) == {"summary", "description", "runbook_url", "portal"}
    assert rule.severity in ("page", "ticket")
    assert told["description"].endswith(".")
    assert len(told["description"]) > 60
    kept = grouped_by(rule.expr) | {"slo"}
    if not kept - {"slo"}:
        return  # of recorded ratios: their own rules say what they keep
    asked = set(re.findall(r"\$labels\.(\w+)", " ".join(told.values())))
    assert asked <= kept | (OF_TARGETS if "up{" in rule.expr else set()), "it would be filled in with nothing"


def test_names_and_severities_are_unique() -> None:
    twice = Counter((rule.name, rule.severity) for rule in ALERTS)
    assert not [pair for pair, n in twice.items() if n > 1]


def test_the_rules_of_promises_are_those_that_the_generator_makes() -> None:
    for place, text in slo.texts(slo.read()).items():
        assert (PROMETHEUS / place).read_text() == text, "run: python -m deploy.watch.slo"


def test_a_promise_pages_for_a_fast_burn_and_makes_a_ticket_of_a_slow_one() -> None:
    rules = slo.alerting(slo.read())["groups"][0]["rules"]
    page, ticket = (
        next(r for r in rules if r["labels"] == {"severity": s, "slo": "rpc-availability"}) for s in slo.BURNS
    )
    assert "1h > 0.0144 and" in page["expr"]
    assert "6h > 0.006 and" in page["expr"]
    assert "1d > 0.003 and" in ticket["expr"]
    assert "3d > 0.001 and" in ticket["expr"]


@pytest.mark.parametrize("least", [0, 1])
def test_a_promise_that_one_failure_could_break_is_refused(tmp_path: Path, least: int) -> None:
    raw = yaml.safe_load((PROMETHEUS / "slo.yaml").read_text())
    raw["slos"][2]["least"] = least
    file = tmp_path / "slo.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match="least of rpc-availability"):
        slo.read(file)


@pytest.mark.parametrize("objective", [0, 100, 150])
def test_a_promise_that_nothing_can_keep_or_break_is_refused(tmp_path: Path, objective: int) -> None:
    raw = yaml.safe_load((PROMETHEUS / "slo.yaml").read_text())
    raw["slos"][0]["objective"] = objective
    file = tmp_path / "slo.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match="objective of loop-latency"):
        slo.read(file)


def test_the_queue_of_commands_is_told_of_before_it_refuses() -> None:
    (rule,) = (rule for rule in ALERTS if rule.name == "CommandsQueue")
    assert float(rule.expr.rpartition(">")[2]) == 0.8 * _MAX_WAITING
