"""What a query of a panel asks for: its selectors, with whatever recording rules stand between expanded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from deploy.grafana.alerts import recorded

#: What Grafana puts for its own variables, about; every other one is "all of them" at first.
_OWN = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "6h"}
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True)
class Matcher:
    """One condition on a label, such as `site != ""`. Regular expressions match the whole value."""

    label: str
    op: str
    value: str

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Does a series with these labels meet it? A label that is not there is empty."""
        found = labels.get(self.label, "")
        hit = re.fullmatch(self.value, found) is not None if "~" in self.op else found == self.value
        return hit != self.op.startswith("!")


@dataclass(frozen=True)
class Selector:
    """A name and what is asked of its labels."""

    name: str
    matchers: tuple[Matcher, ...]

    def takes(self, name: str, labels: Mapping[str, str]) -> bool:
        return name == self.name and all(matcher.takes(labels) for matcher in self.matchers)

    def __str__(self) -> str:
        chosen = ", ".join(f'{one.label}{one.op}"{one.value}"' for one in self.matchers)
        return f"{self.name}{{{chosen}}}" if chosen else self.name


_OPS = (
    (promql.MatchOp.Equal, "="),
    (promql.MatchOp.NotEqual, "!="),
    (promql.MatchOp.Re, "=~"),
    (promql.MatchOp.NotRe, "!~"),
)


def filled(expr: str) -> str:
    """The query as Prometheus gets it when nothing is chosen."""
    for name, value in _OWN.items():
        expr = expr.replace(name, value)
    return _VARIABLE.sub(".*", expr)


def selectors(expr: str) -> list[Selector]:
    """Every selector of a query, recorded names as they stand. ValueError where it does not parse."""
    found: list[Selector] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector):
            told = (Matcher(one.name, _op(one.op), one.value) for one in node.matchers.matchers)
            found.append(Selector(node.name or "", tuple(told)))
        return True

    promql.walk(promql.parse(filled(expr)), visit)
    return found


def _op(op: object) -> str:
    return next(sign for known, sign in _OPS if known == op)


def sources(expr: str) -> list[Selector]:
    """The selectors of series that processes serve: what a rule records stands for what it is made of."""
    found = []
    for one in selectors(expr):
        if one.name not in recorded():
            found.append(one)
            continue
        for below in sources(recorded()[one.name]):
            found.append(Selector(below.name, (*below.matchers, *one.matchers)))
    return found
