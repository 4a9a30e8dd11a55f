"""A dashboard in the terminal: `python -m deploy.grafana.show [BOARD] [--prometheus URL] [--all]`.

Where no Grafana runs, its panels' questions are put to a Prometheus, that of
`make watch` unless another is named, and the answers are printed panel by
panel. Panels in which nothing is above zero are one line each without --all.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.grafana.asked import filled
from deploy.grafana.boards import BOARDS
from deploy.grafana.check import NotAsked, fetched
from deploy.grafana.model import Board, Panel, Query
from deploy.local.plan import state_dir

_PREFIX = "pharmaloop-"
_LEGEND = re.compile(r"\{\{(\w+)\}\}")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Value:
    """One series of an answer, as it is now."""

    labels: Mapping[str, str]
    number: float


#: Answers a query with its series as they are now.
Ask = Callable[[str], list[Value]]


def of_prometheus(address: str) -> Ask:
    """Asks a Prometheus. NotAsked where it does not answer."""

    def ask(expr: str) -> list[Value]:
        body = urllib.parse.urlencode({"query": filled(expr)}).encode()
        try:
            told = json.loads(fetched(f"{address.rstrip('/')}/api/v1/query", body))
        except (OSError, ValueError) as error:
            raise NotAsked(f"{address} does not answer as a Prometheus does: {error}") from error
        found = [Value(one["metric"], float(one["value"][1])) for one in told["data"]["result"]]
        return [one for one in found if not math.isnan(one.number)]

    return ask


def lines(board: Board, ask: Ask, *, everything: bool = False) -> list[str]:
    """The dashboard as text: a heading for each row, and each panel below it."""
    told = [board.title, board.tells]
    for row in board.rows:
        told += ["", f"## {row.title}"]
        for panel in row.panels:
            told += (
                _table(panel, ask, everything) if panel.kind == "table" else _panel(panel, ask, everything)
            )
    return told


def _panel(panel: Panel, ask: Ask, everything: bool) -> list[str]:
    found = [(query, value) for query in panel.queries for value in ask(query.expr)]
    if quiet := _quiet(panel, [value for _, value in found], everything):
        return [quiet]
    named = sorted(
        (_named(query, value), _number(value.number, query.unit or panel.unit)) for query, value in found
    )
    return [*_head(panel), *(f"    {name or '-':<40} {number}" for name, number in named)]


def _table(panel: Panel, ask: Ask, everything: bool) -> list[str]:
    """A row for each label set, a column for each question."""
    rows: dict[str, dict[str, str]] = {}
    found: list[Value] = []
    for query in panel.queries:
        for value in ask(query.expr):
            found.append(value)
            key = " ".join(value.labels[name] for name in sorted(value.labels) if name != "__name__")
            rows.setdefault(key, {})[query.legend] = _number(value.number, query.unit or panel.unit)
    if quiet := _quiet(panel, found, everything):
        return [quiet]
    return [
        *_head(panel),
        *(
            f"    {key:<40} " + ", ".join(f"{column}: {cells[column]}" for column in cells)
            for key, cells in sorted(rows.items())
        ),
    ]


def _head(panel: Panel) -> list[str]:
    """A panel's title, what to do, and whose runbooks say how."""
    books = ", ".join(f"{alert}.md" for alert in panel.alerts)
    return [panel.title, f"  {panel.do}" + (f" Runbook: {books}" if books else "")]


def _quiet(panel: Panel, found: list[Value], everything: bool) -> str:
    """The one line of a panel in which there is nothing to see; empty for all others."""
    if not found:
        return f"{panel.title}: {panel.empty or 'no data'}"
    if not everything and not any(value.number for value in found):
        return f"{panel.title}: 0"
    return ""


def _named(query: Query, value: Value) -> str:
    return _LEGEND.sub(lambda label: value.labels.get(label[1], ""), query.legend).strip()


def _number(number: float, unit: str) -> str:
    if unit == "s":
        return _duration(number)
    if unit == "percentunit":
        return f"{number * 100:.3g} %"
    if unit == "bytes":
        return f"{number / 1e6:.0f} MB"
    said = f"{number:.0f}" if float(number).is_integer() else f"{number:.3g}"
    return f"{said} {unit.removeprefix('suffix:')}"


def _duration(seconds: float) -> str:
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"


def _watching() -> str:
    """The Prometheus of `make watch`."""
    try:
        return str(json.loads((state_dir() / "watch" / "addresses.json").read_text())["prometheus"])
    except FileNotFoundError as error:
        raise NotAsked("nothing watches here: run `make watch`, or name --prometheus URL") from error


def main(arguments: list[str] | None = None) -> int:
    """Print a dashboard."""
    names = [board.uid.removeprefix(_PREFIX) for board in BOARDS]
    parser = argparse.ArgumentParser(
        prog="python -m deploy.grafana.show", description="A dashboard in the terminal."
    )
    parser.add_argument("board", nargs="?", choices=names, default=names[0], help="loops unless named")
    parser.add_argument(
        "--prometheus", default="", metavar="URL", help="whom to ask; else that of make watch"
    )
    parser.add_argument("--all", action="store_true", help="values of 0 too")
    told = parser.parse_args(arguments)
    try:
        ask = of_prometheus(told.prometheus or _watching())
        print("\n".join(lines(BOARDS[names.index(told.board)], ask, everything=told.all)))
    except NotAsked as error:
        print(f"show: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
