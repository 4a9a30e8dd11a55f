"""The alert rules as they are shipped: in a hurry for a drill, or judged without a Prometheus."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.watch.files import PROMETHEUS

#: In a drill a rule's `for` is so many times shorter than it is shipped.
FACTOR = 10
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: `max by (a, b) (metric{label="value"}) > 0`, or without the part before the metric.
_SIMPLE = re.compile(
    r"(?:(?:max|min) by \([\w, ]+\) )?\(?(?P<metric>\w+)(?:\{(?P<labels>[^}]*)\})?\)?"
    r" (?P<op>>|==) (?P<bound>\d+)"
)
_WITH = re.compile(r"\{\{ with \$labels\.(\w+) \}\}(.*?)\{\{ end \}\}")
_LABEL = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


@dataclass(frozen=True)
class Sample:
    """One number of a process: a metric's name, its labels with those of the process, its value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Rule:
    """An alert as it is shipped; `seconds` is how long it has to hold."""

    alert: str
    expr: str
    seconds: float
    severity: str
    notes: Mapping[str, str]

    def holds_of(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that make it true, for a rule that compares one metric with one number.

        ValueError for any other: only Prometheus can judge that.
        """
        simple = _SIMPLE.fullmatch(self.expr)
        if simple is None:
            raise ValueError(f"{self.alert}: {self.expr!r} compares no single metric: it needs Prometheus")
        wanted = _LABEL.findall(simple["labels"] or "")
        bound = float(simple["bound"])
        return [
            sample
            for sample in samples
            if sample.name == simple["metric"]
            and all(_fits(sample.labels.get(label, ""), how, value) for label, how, value in wanted)
            and (sample.value > bound if simple["op"] == ">" else sample.value == bound)
        ]

    def note(self, name: str, sample: Sample) -> str:
        """An annotation, with what the sample says in its places."""
        labels = sample.labels
        # {{ with $labels.site }} of {{ . }}{{ end }}: told only where there is one.
        text = _WITH.sub(
            lambda found: found[2].replace("{{ . }}", labels[found[1]]) if labels.get(found[1]) else "",
            self.notes[name],
        )
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], ""), text)
        return re.sub(r"\{\{ \$value[^}]*\}\}", f"{sample.value:g}", text)


def _fits(value: str, how: str, wanted: str) -> bool:
    same = re.fullmatch(wanted, value) is not None if "~" in how else value == wanted
    return same != how.startswith("!")


def shipped(folder: Path = PROMETHEUS / "alerting") -> list[Rule]:
    """All alerts."""
    return [
        Rule(
            raw["alert"],
            raw["expr"],
            seconds_of(raw.get("for", "0s")),
            raw["labels"]["severity"],
            raw["annotations"],
        )
        for file in sorted(folder.glob("*.rules.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for raw in group["rules"]
    ]


def seconds_of(duration: str) -> float:
    """Of a duration such as 1m or 4h."""
    return float(duration[:-1]) * _UNITS[duration[-1]]


def hurry(folder: Path, factor: int = FACTOR) -> None:
    """Have the files of `deploy.watch.files.write` judged in seconds: each `for` is a tenth, Prometheus
    looks every two seconds, and Alertmanager waits for one. What is compared stays as it is shipped."""
    for file in (folder / "alerting").glob("*.rules.yaml"):
        raw = yaml.safe_load(file.read_text())
        for group in raw["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = f"{max(1, round(seconds_of(rule['for']) / factor))}s"
        file.write_text(yaml.safe_dump(raw, sort_keys=False, width=110, allow_unicode=True))
    file = folder / "prometheus.yaml"
    raw = yaml.safe_load(file.read_text())
    raw["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    file = folder / "alertmanager.yaml"
    raw = yaml.safe_load(file.read_text())
    raw["route"] |= {"group_wait": "1s", "group_interval": "2s"}
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
