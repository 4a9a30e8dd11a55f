"""The metrics registry: one meaning for each name, and a page that Prometheus reads."""

from __future__ import annotations

import re
from collections import Counter
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.kit import metrics
from services.kit.metrics import (
    CATALOGUE,
    DEAD_LETTERS,
    LABELS,
    LOOP_RUNS,
    PROCESS,
    RUNNER_LAG,
    STAGE_SECONDS,
    Metric,
    Metrics,
)

NAMES = [metric.name for metric in CATALOGUE]


def test_names_are_unique() -> None:
    # Prometheus drops the suffix of counters: "a" and "a_total" would be one.
    assert not [name for name, n in Counter(name.removesuffix("_total") for name in NAMES).items() if n > 1]


def test_every_metric_of_the_module_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == {value for value in vars(metrics).values() if isinstance(value, Metric)}


@pytest.mark.parametrize("metric", CATALOGUE, ids=NAMES)
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert len(metric.help) > 20, "what it means, for who is woken by it"
    assert metric.help.endswith(".")
    assert re.fullmatch(r"pharmaloop(_[a-z]+)+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    if metric.kind == "histogram":
        seconds = metric.buckets == Metric("", "histogram", (), "").buckets
        assert metric.name.endswith("_seconds") == seconds, "its buckets are seconds"
    assert len(set(metric.labels)) == len(metric.labels)


def test_the_page_shows_what_was_noted() -> None:
    service = Metrics("rnd")
    service.add(DEAD_LETTERS, 2, runner="rnd.insights", reason="UNDECODABLE")
    service.set(RUNNER_LAG, 7, runner="rnd.insights")
    service.observe(STAGE_SECONDS, 0.3, loop="safety", stage="trace")
    service.add(LOOP_RUNS, loop="safety", outcome="closed")
    port = service.serve("127.0.0.1", 0)
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        page = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    for metric in CATALOGUE:
        assert families[metric.name.removesuffix("_total")].documentation == metric.help
    assert sample(service, "pharmaloop_dead_letters_total", runner="rnd.insights", reason="UNDECODABLE") == 2
    assert sample(service, "pharmaloop_runner_lag_records", runner="rnd.insights") == 7
    for bound, count in (("0.25", 0), ("0.5", 1)):
        found = sample(service, "pharmaloop_stage_seconds_bucket", loop="safety", stage="trace", le=bound)
        assert found == count
    assert 'pharmaloop_loop_runs_total{loop="safety",outcome="closed"} 1.0' in page


def sample(service: Metrics, name: str, **labels: str) -> float | None:
    own = {} if "loop" in labels else {"service": service.service}
    return service.registry.get_sample_value(name, {**own, **labels})


def test_two_services_in_one_process_do_not_mix() -> None:
    one, two = Metrics("rnd"), Metrics("alerting")
    one.set(RUNNER_LAG, 1, runner="x")
    assert two.registry.get_sample_value(RUNNER_LAG.name, {"service": "rnd", "runner": "x"}) is None


def test_a_label_that_the_registry_does_not_name_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        Metrics("rnd").set(RUNNER_LAG, 1, runner="x", lot="m/item/G/1")


@pytest.mark.parametrize("metric", CATALOGUE, ids=NAMES)
def test_every_label_is_bounded_by_the_installation(metric: Metric) -> None:
    assert set(metric.labels) <= set(LABELS), "say in LABELS what bounds it, or leave it out"


def test_no_label_names_a_patient_a_lot_a_run_or_a_person() -> None:
    endless = {"patient", "pseudonym", "lot", "batch", "run", "case", "dispense", "actor", "request", "event"}
    endless |= {"plan", "study", "set", "transfer", "key", "id", "offset", "partition", "trace", "address"}
    assert not endless & set(LABELS)
    assert set(LABELS) == {label for metric in CATALOGUE for label in metric.labels}, "one that nobody uses"


def test_the_process_tells_of_itself() -> None:
    names = {family.name for family in Metrics("rnd").registry.collect()}
    assert {name.removesuffix("_total") for name in PROCESS} <= names
