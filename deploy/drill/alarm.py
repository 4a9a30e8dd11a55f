"""See a fault's alert: by a Prometheus and an Alertmanager of the drill's own, else by the rule's own number.

Both judge the rules that are shipped, in a hurry unless told otherwise: each
`for` is a tenth (`rules.hurry`). What is compared with what is as shipped.
"""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deploy.drill.ground import Ground
from deploy.drill.rules import FACTOR, Rule, hurry, shipped
from deploy.local.plan import ROOT
from deploy.local.ports import load_ports
from deploy.watch import files, tools
from deploy.watch.engines import alertmanager, prometheus
from deploy.watch.receiver import HOST, Receiver

_PAUSE = 1.0
_FIRST_LOOK_SECONDS = 30.0
_PROGRAMS = ("prometheus", "alertmanager")


@dataclass(frozen=True)
class Alert:
    """An alert that fires, as somebody hears of it. `receivers` is empty where nobody is told."""

    name: str
    labels: Mapping[str, str]
    notes: Mapping[str, str]
    receivers: tuple[str, ...] = ()


class Alarm(Protocol):
    """Who sees alerts."""

    #: In a sentence, who judges and with which times.
    how: str

    def firing(self, name: str, labels: Mapping[str, str]) -> Alert | None:
        """The alert of this name that has these labels, if it fires now."""

    def asked(self, query: str) -> list[str]:
        """What Prometheus answers, a line for each series; ToolsError where there is none."""


class ByAlertmanager:
    """What came out of the web hook."""

    def __init__(self, kept: Path, scraper: str, how: str) -> None:
        self._kept = kept
        self._scraper = scraper
        self.how = how

    def firing(self, name: str, labels: Mapping[str, str]) -> Alert | None:
        last: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for told in self._told():
            for alert in told["alerts"]:
                has = alert["labels"]
                if has["alertname"] == name and labels.items() <= has.items():
                    last[told["receiver"]] = (alert["status"], alert)
        fires = {receiver: alert for receiver, (status, alert) in last.items() if status == "firing"}
        if not fires:
            return None
        alert = next(iter(fires.values()))
        return Alert(name, alert["labels"], alert["annotations"], tuple(sorted(fires)))

    def asked(self, query: str) -> list[str]:
        address = f"{self._scraper}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
        return sorted(f"{_series(one['metric'])}  {one['value'][1]}" for one in found)

    def _told(self) -> list[dict[str, Any]]:
        # The receiver may be in the middle of a line.
        text = self._kept.read_text() if self._kept.exists() else ""
        return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]


def _series(labels: Mapping[str, str]) -> str:
    told = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    return f"{labels.get('__name__', '')}{{{told}}}"


class BySignal:
    """The same rules, judged here by the processes' own numbers: nobody is told, and nothing is kept."""

    def __init__(
        self, scrape: Callable[[], Any], rules: list[Rule], factor: int, how: str, now: Callable[[], float]
    ) -> None:
        self._scrape = scrape
        self._rules = rules
        self._factor = factor
        self._now = now
        self._since: dict[tuple[str, str], float] = {}
        self.how = how

    def firing(self, name: str, labels: Mapping[str, str]) -> Alert | None:
        samples = self._scrape()
        for rule in (rule for rule in self._rules if rule.alert == name):
            key = (rule.expr, json.dumps(dict(labels), sort_keys=True))
            true = [one for one in rule.holds_of(samples) if labels.items() <= one.labels.items()]
            if not true:
                self._since.pop(key, None)
                continue
            since = self._since.setdefault(key, self._now())
            if self._now() - since >= rule.seconds / self._factor:
                notes = {note: rule.note(note, true[0]) for note in rule.notes}
                return Alert(name, {**true[0].labels, "severity": rule.severity}, notes)
        return None

    def asked(self, query: str) -> list[str]:
        raise tools.ToolsError(f"no Prometheus here to ask: {query}")


@contextmanager
def alarm(ground: Ground, *, hurried: bool) -> Iterator[Alarm]:
    """Who sees alerts during one drill: the real programs where this machine has them.

    They are the drill's own beside those of `make watch`, which keeps its times and its notifications.
    """
    factor = FACTOR if hurried else 1
    times = f"each `for` of a rule is 1/{factor} of what is shipped" if hurried else "times as shipped"
    if any(tools.find(program) is None for program in _PROGRAMS):
        how = f"the rules' own numbers, read from the processes ({times}); `make watch-tools` gets Prometheus"
        yield BySignal(ground.scrape, shipped(), factor, how, time.monotonic)
        return
    folder = ground.folder / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "notifications.jsonl"
    kept.unlink(missing_ok=True)
    ports = load_ports(ground.state, ["drill_prometheus", "drill_alertmanager"])
    receiver = Receiver(kept, lambda line: None)
    found = files.targets(ground.endpoints["metrics"])
    manager_at = f"{HOST}:{ports['drill_alertmanager']}"
    portal = ground.endpoints.get("portal", "")
    files.write(folder, files.Places(manager_at, receiver.address, portal, str(ROOT)), found)
    if hurried:
        hurry(folder)
    try:
        with (
            alertmanager(folder, ports["drill_alertmanager"]),
            prometheus(folder, ports["drill_prometheus"]) as scraper,
        ):
            seen = ByAlertmanager(kept, scraper, f"a real Prometheus and Alertmanager ({times})")
            _wait_for_first_look(seen, len(found))
            yield seen
    finally:
        receiver.close()


def _wait_for_first_look(seen: ByAlertmanager, targets: int) -> None:
    """Until every process was scraped: what is gone later was seen before."""
    end = time.monotonic() + _FIRST_LOOK_SECONDS
    while len(seen.asked('up{job="pharmaloop"}')) < targets and time.monotonic() < end:
        time.sleep(_PAUSE)


def until(test: Callable[[], Any], seconds: float) -> Any:
    """What `test` answers once it is true, or as it is when the time is over."""
    end = time.monotonic() + seconds
    while not (answer := test()) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return answer
