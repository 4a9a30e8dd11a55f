"""What a dashboard is here: rows of panels, each with its questions, what to do, and where the cause is.

Data only. `build` makes Grafana's JSON of it, `page` the page of the docs, and
`check` asks a running platform which panels it has numbers for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: stat: one number a series, with its recent course; lines: courses; bars: one bar a series;
#: table: one row a label set, one column a question.
Kind = Literal["stat", "lines", "bars", "table"]
#: Grafana's units: seconds, shares, calls and events a second, bytes, cores, or a thing that is counted.
Unit = Literal[
    "s",
    "percentunit",
    "reqps",
    "cps",
    "bytes",
    "suffix:alerts",
    "suffix:calls",
    "suffix:commands",
    "suffix:cores",
    "suffix:events",
    "suffix:letters",
    "suffix:lots",
    "suffix:patients",
    "suffix:processes",
    "suffix:records",
    "suffix:runners",
    "suffix:runs",
    "suffix:starts",
    "suffix:steps",
    "suffix:streams",
    "suffix:times",
    "suffix:× budget",
]


@dataclass(frozen=True)
class Query:
    """A question to Prometheus. `legend` names a series by its labels; in a table it names the column, which
    has its own `unit` where it is another than the panel's."""

    expr: str
    legend: str
    unit: Unit | None = None


@dataclass(frozen=True)
class Link:
    """Where to go from a panel. With a label of the value that was clicked (`${__field.labels...}`, in tables
    `${__data.fields...}`) it stands at each value, else in the panel's head."""

    title: str
    url: str

    @property
    def of_value(self) -> bool:
        return "${__field." in self.url or "${__data." in self.url


@dataclass(frozen=True)
class Levels:
    """From which value on colour says that something is wrong; `below`: up to which, instead."""

    ticket: float | None = None
    page: float | None = None
    below: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. `shows` says what is seen, `do` what to do when it looks wrong: both are full sentences.

    `alerts` are those that judge the same number: their bounds colour it unless `levels` does, and their
    runbooks are linked. `empty` is what stands there when nothing is to be shown, for panels where that is
    well; all others always have a number, and say so when they have none.
    """

    title: str
    kind: Kind
    unit: Unit
    shows: str
    do: str
    queries: tuple[Query, ...]
    links: tuple[Link, ...]
    width: int = 8
    height: int = 8
    alerts: tuple[str, ...] = ()
    levels: Levels | None = None
    empty: str = ""

    @property
    def description(self) -> str:
        return f"{self.shows} {self.do}"


@dataclass(frozen=True)
class Row:
    """A row: what its panels answer together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Choice:
    """A variable: values of a label of a metric, all of them at first. One of `within` narrows it."""

    name: str
    label: str
    metric: str
    within: str = ""

    @property
    def query(self) -> str:
        chosen = f'{{{self.within}=~"${self.within}"}}' if self.within else ""
        return f"label_values({self.metric}{chosen}, {self.name})"


@dataclass(frozen=True)
class Written:
    """A variable that somebody types in, such as the id of a run that an alert named."""

    name: str
    label: str
    tells: str


@dataclass(frozen=True)
class Board:
    """A dashboard. Its `uid` is its address, and the name of its file."""

    uid: str
    title: str
    tells: str
    rows: tuple[Row, ...]
    variables: tuple[Choice | Written, ...] = ()
    links: tuple[Link, ...] = field(default=())

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]
