"""What a PromQL expression names: metrics, the labels that are asked of each, what is grouped by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from services.kit.metrics import CATALOGUE, PROCESS, Metric

#: Functions that make sense of what only rises; all others of what rises and falls.
OF_COUNTERS = frozenset({"rate", "increase", "irate", "resets"})
#: What a scraper adds to every series, and Prometheus says of every target.
OF_TARGETS = frozenset({"job", "instance", "service", "site"})
_HISTOGRAM = ("_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Series:
    """A name as Prometheus stores it: its labels, and whether it only rises."""

    labels: frozenset[str]
    rises: bool


def _series(metric: Metric) -> Iterator[tuple[str, Series]]:
    labels = frozenset(metric.labels) | OF_TARGETS
    if metric.kind != "histogram":
        yield metric.name, Series(labels, metric.kind == "counter")
        return
    for suffix in _HISTOGRAM:
        yield metric.name + suffix, Series(labels | ({"le"} if suffix == "_bucket" else set()), True)


#: Every series that there may be, but for those that rules record.
KNOWN: dict[str, Series] = {
    "up": Series(OF_TARGETS, False),
    **{name: Series(OF_TARGETS, name.endswith("_total")) for name in PROCESS},
    **{name: series for metric in CATALOGUE for name, series in _series(metric)},
}


@dataclass(frozen=True)
class Named:
    """A selector: the metric, the labels it matches on, and the function around it, if there is one."""

    name: str
    labels: frozenset[str]
    function: str


def selectors(text: str) -> list[Named]:
    """Every selector of an expression. ValueError where it does not parse."""
    around: dict[str, str] = {}
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.Call):
            for argument in node.args:
                if isinstance(argument, promql.MatrixSelector):
                    around[str(argument.vector_selector)] = node.func.name
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(promql.parse(text), visit)
    return [
        Named(
            node.name or "",
            frozenset(matcher.name for matcher in node.matchers.matchers),
            around.get(str(node), ""),
        )
        for node in found
    ]


def grouped_by(text: str) -> set[str]:
    """Labels that aggregations of the expression keep."""
    labels: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)
        return True

    promql.walk(promql.parse(text), visit)
    return labels
