"""Which panels have no data: `python -m deploy.grafana.check [--metrics URL ...] [--prometheus URL]`.

Asks the processes of the stack that runs here, or those named, and looks
whether every selector of a query finds a series. A Prometheus evaluates the
queries themselves, over what it has scraped so far; so wait for some rounds.
Ends with 1 where a panel that always has a number has none.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from deploy.grafana.asked import filled, sources
from deploy.grafana.boards import BOARDS
from deploy.grafana.model import Board, Panel
from deploy.local.plan import state_dir
from deploy.watch.files import targets

_SECONDS = 10.0
#: Made by Prometheus of the rules: no process serves it.
_ALERTS = "ALERTS"

#: Says why a query has no data; nothing where it has some.
Ask = Callable[[str], str]


class NotAsked(RuntimeError):
    """Nobody could be asked; the message says who, and why."""


@dataclass(frozen=True)
class Finding:
    """A panel without data, and why. `well` where it may be empty."""

    board: Board
    panel: Panel
    why: str

    @property
    def well(self) -> bool:
        return bool(self.panel.empty)

    def __str__(self) -> str:
        said = f"empty, which may be ({self.panel.empty})" if self.well else "no data"
        return f"{self.board.title} / {self.panel.title}: {said}: {self.why}"


@dataclass(frozen=True)
class Series:
    """What a process serves: a name and its labels, with those that a scraper adds."""

    name: str
    labels: Mapping[str, str]


def scraped(address: str, added: Mapping[str, str]) -> list[Series]:
    """The series of a process. NotAsked where it does not answer with metrics."""
    url = address if "://" in address else f"http://{address}"
    if not urllib.parse.urlsplit(url).path.strip("/"):
        url = url.rstrip("/") + "/metrics"
    try:
        families = list(text_string_to_metric_families(fetched(url)))
    except (OSError, ValueError) as error:
        raise NotAsked(f"{url} does not tell its metrics: {error}") from error
    labels = {"job": "pharmaloop", "instance": urllib.parse.urlsplit(url).netloc, **added}
    found = [Series("up", labels)]
    for family in families:
        # Its own labels stand, as with honor_labels.
        found += [Series(sample.name, {**labels, **sample.labels}) for sample in family.samples]
    return found


def of_series(series: Iterable[Series]) -> Ask:
    """Asks whether each selector of a query finds one of these."""
    by_name: dict[str, list[Mapping[str, str]]] = {}
    for one in series:
        by_name.setdefault(one.name, []).append(one.labels)

    def ask(expr: str) -> str:
        for selector in sources(expr):
            if selector.name == _ALERTS:
                continue
            if not any(selector.takes(selector.name, labels) for labels in by_name.get(selector.name, ())):
                return f"no series of {selector}"
        return ""

    return ask


def of_prometheus(address: str) -> Ask:
    """Has a Prometheus evaluate the query."""

    def ask(expr: str) -> str:
        body = urllib.parse.urlencode({"query": filled(expr)}).encode()
        try:
            told = json.loads(fetched(f"{address.rstrip('/')}/api/v1/query", body))
        except urllib.error.HTTPError as error:
            return f"refused: {error.read().decode(errors='replace')[:300]}"
        except (OSError, ValueError) as error:
            raise NotAsked(f"{address} does not answer as a Prometheus does: {error}") from error
        values = [float(one["value"][1]) for one in told["data"]["result"]]
        if not values:
            return f"nothing for {filled(expr)}"
        return f"not a number for {filled(expr)}" if all(map(math.isnan, values)) else ""

    return ask


def findings(boards: Iterable[Board], ask: Ask) -> list[Finding]:
    """The panels none of whose queries has data."""
    found = []
    for board in boards:
        for panel in board.panels:
            whys = [ask(query.expr) for query in panel.queries]
            if all(whys):
                found.append(Finding(board, panel, whys[0]))
    return found


def fetched(url: str, body: bytes | None = None) -> str:
    """The text that an address answers with. OSError where it does not."""
    with urllib.request.urlopen(url, data=body, timeout=_SECONDS) as answer:
        return str(answer.read().decode())


def _here() -> list[tuple[str, Mapping[str, str]]]:
    """The processes of the stack that runs here: address, and the labels that a scraper adds."""
    try:
        endpoints = json.loads((state_dir() / "endpoints.json").read_text())
    except FileNotFoundError as error:
        raise NotAsked("no stack runs here: start one with `make up`, or name --metrics URL") from error
    return [(one["targets"][0], one["labels"]) for one in targets(endpoints["metrics"])]


def _asker(metrics: list[str], prometheus: str) -> Ask:
    if prometheus:
        return of_prometheus(prometheus)
    places: list[tuple[str, Mapping[str, str]]] = [(url, {}) for url in metrics] or _here()
    return of_series(series for address, added in places for series in scraped(address, added))


def main(arguments: list[str] | None = None) -> int:
    """Tell the panels without data."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.grafana.check", description="Panels without data."
    )
    parser.add_argument("--metrics", nargs="+", default=[], metavar="URL", help="processes to ask")
    parser.add_argument(
        "--prometheus", default="", metavar="URL", help="a Prometheus that evaluates the queries"
    )
    told = parser.parse_args(arguments)
    if told.metrics and told.prometheus:
        parser.error("--prometheus has scraped what it evaluates: name it or --metrics, not both")
    try:
        found = findings(BOARDS, _asker(told.metrics, told.prometheus))
    except NotAsked as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    for finding in found:
        print(finding)
    missing = sum(not finding.well for finding in found)
    panels = sum(len(board.panels) for board in BOARDS)
    well = len(found) - missing
    print(f"{panels - len(found)} of {panels} panels have data, {well} may be empty, {missing} lack it")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
