"""What waits for a person: which lists of services are asked, and the rows that come of them.

One rule for the portal and the command. Every list is asked once, by state and oldest first, for `MOST`
rows: what is beyond is said, not read. Answers are read by the names of their fields, so that nothing here
knows a service; `min` of no list is a patient. What a hospital is late with is told as a count, and as
`small_groups` allows.

The gravest stands first, by what is known of a risk in the order of ICH Q9(R1): whom it can harm (at how many
hospitals a safety run that goes on found exposed patients), how bad it is (the class), how likely it is real
(how far beyond its limit), then how long it waits. Of hospitals the number is told anyway; no number of
patients is needed for the order, so that none follows from it. What belongs together is one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.kit import small_groups

#: At most so many rows of a list, the oldest.
MOST = 200
#: Whose turn it is. A row of a site says which: "site hospital-a".
QUALITY, PLANT, RESEARCH, SITE = "quality", "plant", "research", "site"
ROLES = (QUALITY, PLANT, RESEARCH, SITE)
#: By kind of work, in the order in which it is shown: whose turn it is.
KINDS = {
    "judge-deviation": QUALITY,
    "classify-deviation": QUALITY,
    "close-deviation": QUALITY,
    "decide-lot": QUALITY,
    "evaluate-hazard": QUALITY,
    "approve-capa": QUALITY,
    "validate-capa": QUALITY,
    "file-capa": QUALITY,
    "check-capa": QUALITY,
    "decide-transfer": PLANT,
    "finish-change": PLANT,
    "review-set": RESEARCH,
    "release-set": RESEARCH,
    "take-up-finding": RESEARCH,
    "approve-study": SITE,
    "overdue-plans": SITE,
}
#: Asked of every site's own process, not by a list.
OVERDUE = "overdue-plans"


@dataclass(frozen=True)
class Waiting:
    """One thing that waits. `of` is what it is about: a lot, a product, a plant or a site.

    `since` is None where no service says it. `lacks` are the steps that a change control still needs, of
    "validation" and "filing". `people` is how many patients are concerned; None where none are, or where
    the number is withheld. `sayings` are the parts of `what` where the platform says it.

    How grave it is: `sites` are hospitals with exposed patients; `severity` is 1 to 3 (minor, major,
    critical), 0 where nobody and no rule said it; `magnitude` and `limit` are in spreads, 0 where nothing
    left a limit. `lot` and `runs` (of the safety loop) are what `sites` is known by. `belongs` is what rows
    of a kind are grouped by; empty for one that stands alone.
    """

    kind: str
    id: str
    of: str
    role: str
    what: str = ""
    since: Timestamp | None = None
    version: int = 0
    lacks: tuple[str, ...] = ()
    people: int | None = None
    withheld: bool = False
    sayings: tuple[Any, ...] = ()
    sites: int = 0
    severity: int = 0
    magnitude: float = 0.0
    limit: float = 0.0
    lot: str = ""
    runs: tuple[str, ...] = ()
    belongs: str = ""

    @property
    def distance(self) -> float:
        """How many times its limit it went; 0 where it left none."""
        return self.magnitude / self.limit if self.limit > 0 else 0.0


@dataclass(frozen=True)
class Listed:
    """A list that is asked: its service and call, the field that has the rows, what it may bring, and how.

    `weighs` are kinds of other lists whose order it tells.
    """

    service: str
    method: str
    part: str
    kinds: tuple[str, ...]
    rows: Callable[[Any], Iterable[Waiting]]
    fields: Mapping[str, Any] = field(default_factory=dict)
    weighs: tuple[str, ...] = ()

    def asked(self) -> dict[str, Any]:
        """The fields of the request."""
        return {"page_size": MOST, **self.fields}


def chosen(kind: str = "", role: str = "") -> list[Listed]:
    """The lists that may bring what is asked for, or tell its order: of this kind, for this role; all where
    they are empty."""
    wanted = kinds_of(kind, role)
    return [one for one in LISTS if wanted & {*one.kinds, *one.weighs}]


def kinds_of(kind: str = "", role: str = "") -> set[str]:
    """The kinds that are asked for."""
    of = role.partition(" ")[0]
    return {name for name, whose in KINDS.items() if kind in ("", name) and of in ("", whose)}


def fits(row: Waiting, kind: str = "", role: str = "") -> bool:
    """Is it asked for? "site" is every site, "site hospital-a" that one."""
    return kind in ("", row.kind) and (role in ("", row.role) or row.role.startswith(f"{role} "))


#: What a class counts in the order. One that nobody and no rule said is not put off.
_CLASS = {0: 2, 1: 1, 2: 2, 3: 3}


def in_order(rows: Iterable[Waiting]) -> list[Waiting]:
    """By kind as `KINDS` has them, in each the gravest first (of overdue plans, where most are, if that is
    told); of equals the oldest, unknown age last."""
    places = {kind: place for place, kind in enumerate(KINDS)}

    def place(row: Waiting) -> tuple[Any, ...]:
        at = row.since or Timestamp()
        grave = (-row.sites, -_CLASS[row.severity], -row.distance, -(row.people or 0))
        return places[row.kind], *grave, row.since is None, at.seconds, at.nanos, row.of, row.id

    return sorted(rows, key=place)


def groups(rows: Iterable[Waiting]) -> list[tuple[Waiting, ...]]:
    """Rows in order, those that belong together as one: it stands where its gravest row does."""
    found: dict[tuple[str, ...], list[Waiting]] = {}
    for number, row in enumerate(rows):
        key = (row.kind, row.belongs) if row.belongs else (row.kind, "", str(number))
        found.setdefault(key, []).append(row)
    return [tuple(group) for group in found.values()]


def exposed(rows: Iterable[Waiting], runs: Iterable[Any]) -> list[Waiting]:
    """The rows with how many hospitals have exposed patients, by the safety runs that go on."""
    of_run: dict[str, int] = {}
    of_lot: dict[str, int] = {}
    for run in runs:
        of_run[run.run] = len(run.sites)
        of_lot[run.case] = max(of_lot.get(run.case, 0), len(run.sites))
    return [
        replace(row, sites=max((row.sites, of_lot.get(row.lot, 0), *(of_run.get(id, 0) for id in row.runs))))
        for row in rows
    ]


def overdue(boards: Mapping[str, Iterable[Any]]) -> list[Waiting]:
    """One row for each site where somebody has not answered in time, from the boards of all of them.

    A number is told only where it may be told of every site. Since when is left out: the moment would be
    that of one patient.
    """
    groups: dict[str, dict[str, list[int]]] = {}
    late: dict[str, int] = {}
    for site, board in boards.items():
        runs = list(board)
        groups |= {f"{site}|{run.run}": _late([run]) for run in runs}
        groups[site] = _late(runs)
        late[site] = sum(run.overdue + run.comparators_overdue for run in runs)
    told = bool(small_groups.told(groups))
    return [
        Waiting(OVERDUE, site, site, f"{SITE} {site}", people=count if told else None, withheld=not told)
        for site, count in late.items()
        if count
    ]


def _late(runs: Sequence[Any]) -> dict[str, list[int]]:
    """The groups that follow from how many are overdue and from what stands beside it."""
    exposed = sum(run.overdue for run in runs)
    comparators = sum(run.comparators_overdue for run in runs)
    return {OVERDUE: [exposed, comparators, sum(run.awaited for run in runs) - exposed]}


# -- rows of each list -------------------------------------------------------

#: How a deviation stands that was judged a false alarm, as production numbers its states.
_REJECTED = 3


def _when(history: Iterable[Any], *events: str) -> Timestamp | None:
    """The latest moment of one of these events; None where there is none on record."""
    found = [one.at for one in history if one.event in events]
    return max(found, key=lambda at: (at.seconds, at.nanos)) if found else None


def _present(message: Any, name: str) -> Timestamp | None:
    return getattr(message, name) if message.HasField(name) else None


def _measured(row: Any) -> dict[str, Any]:
    """How grave a deviation is: as it was classified, else as the product's rules propose by now."""
    found, latest = row.detected, row.updated
    return {
        "severity": row.severity or max(found.proposed_severity, latest.proposed_severity),
        "magnitude": max(found.magnitude, latest.magnitude),
        "limit": found.limit,
    }


def _deviation(kind: str, row: Any, since: Timestamp | None) -> Waiting:
    found = row.detected
    what = f"{found.tag} ({found.phase})" if found.phase else found.tag
    own = {"lot": found.lot, "belongs": found.lot, **_measured(row)}
    return Waiting(kind, found.deviation, found.lot, QUALITY, what, since, **own)


def _to_judge(row: Any) -> list[Waiting]:
    return [_deviation("judge-deviation", row, _present(row.detected, "detected"))]


def _judged(row: Any) -> list[Waiting]:
    """A real one is classified, then closed. One that a corrective action answers is closed with that."""
    if not row.severity:
        return [_deviation("classify-deviation", row, _when(row.history, "DeviationConfirmed"))]
    if row.capa:
        return []
    since = _when(row.history, "DeviationConfirmed", "DeviationClassified")
    return [_deviation("close-deviation", row, since)]


def _capa(kind: str, row: Any, since: Timestamp | None) -> Waiting:
    found = row.proposed
    return Waiting(kind, found.capa, found.lot, QUALITY, found.tag, since, lot=found.lot, runs=(found.run,))


def _proposed(row: Any) -> list[Waiting]:
    return [_capa("approve-capa", row, _when(row.history, "CapaProposed"))]


def _approved(row: Any) -> list[Waiting]:
    since = _when(row.history, "CapaApproved")
    lacking = (("validate-capa", "validated"), ("file-capa", "filing"))
    return [_capa(kind, row, since) for kind, name in lacking if not row.HasField(name)]


def _effective(row: Any) -> list[Waiting]:
    return [_capa("check-capa", row, _when(row.history, "ProcessLimitChanged"))]


def _held(row: Any) -> list[Waiting]:
    """A lot on hold, as grave as the worst of its own deviations that is not judged a false alarm. Lots of
    one product that one safety run implicated, or that are held for the same reason, belong together."""
    own = [_measured(one) for one in row.deviations if one.state != _REJECTED]
    worst = max(own, key=lambda one: (_CLASS[one["severity"]], one["magnitude"]), default={})
    why = row.runs[-1] if row.runs else row.reason
    return [
        Waiting(
            "decide-lot",
            row.lot,
            row.product,
            QUALITY,
            row.reason,
            _present(row, "since"),
            sayings=tuple(row.reason_sayings),
            lot=row.lot,
            runs=tuple(row.runs),
            belongs=f"{row.product}|{why}",
            **worst,
        )
    ]


def _to_evaluate(row: Any) -> list[Waiting]:
    if row.stage != "evaluate":
        return []
    since, sites = _present(row, "stage_since"), len(row.sites)
    return [Waiting("evaluate-hazard", row.run, row.case, QUALITY, since=since, lot=row.case, sites=sites)]


def _to_decide(row: Any) -> list[Waiting]:
    what = f"{row.set} / {row.version}"
    return [Waiting("decide-transfer", row.transfer, row.plant, PLANT, what, _present(row, "at"))]


def _to_finish(row: Any) -> list[Waiting]:
    steps = (("validation", "validated"), ("filing", "filing"))
    lacks = tuple(name for name, field_name in steps if not row.HasField(field_name))
    what, since = f"{row.set} / {row.version}", _present(row, "at")
    return [Waiting("finish-change", row.transfer, row.plant, PLANT, what, since, row.version, lacks)]


def _drafted(row: Any) -> list[Waiting]:
    return [_version("review-set", row, _present(row, "drafted"))]


def _reviewed(row: Any) -> list[Waiting]:
    return [_version("release-set", row, _present(row, "reviewed"))]


def _version(kind: str, row: Any, since: Timestamp | None) -> Waiting:
    return Waiting(kind, row.set, row.product, RESEARCH, "", since, version=row.version)


def _finding(row: Any) -> list[Waiting]:
    at, sayings = _present(row, "at"), tuple(row.statement_sayings)
    return [
        Waiting("take-up-finding", row.insight, row.product, RESEARCH, row.statement, at, sayings=sayings)
    ]


def _study(row: Any) -> list[Waiting]:
    """One row for each site whose owner has not said yes."""
    asked, signed = row.requested, {one.site for one in row.approvals}
    return [
        Waiting("approve-study", asked.study, site, f"{SITE} {site}", asked.question, _present(row, "at"))
        for site in asked.sites
        if site not in signed
    ]


def _production(
    method: str, part: str, state: str, kinds: tuple[str, ...], rows: Callable[[Any], Iterable[Waiting]]
) -> Listed:
    return Listed("production", method, part, kinds, rows, {"state": state, "oldest_first": True})


_REAL = ("classify-deviation", "close-deviation")
LISTS = (
    *(
        _production("ListDeviations", "deviations", f"DEVIATION_STATE_{state}", kinds, rows)
        for state, kinds, rows in (
            ("OPEN", ("judge-deviation",), _to_judge),
            ("UNDER_INVESTIGATION", ("judge-deviation",), _to_judge),
            ("CONFIRMED", _REAL, _judged),
            ("CAPA_REQUIRED", ("classify-deviation",), _judged),
        )
    ),
    *(
        _production("ListCapas", "capas", f"CAPA_STATE_{state}", kinds, rows)
        for state, kinds, rows in (
            ("PROPOSED", ("approve-capa",), _proposed),
            ("APPROVED", ("validate-capa", "file-capa"), _approved),
            ("EFFECTIVE", ("check-capa",), _effective),
        )
    ),
    _production("ListLots", "lots", "LOT_STATE_HELD", ("decide-lot",), _held),
    _production("ListTransfers", "transfers", "TRANSFER_STATE_PROPOSED", ("decide-transfer",), _to_decide),
    _production(
        "ListTransfers", "transfers", "TRANSFER_STATE_IN_CHANGE_CONTROL", ("finish-change",), _to_finish
    ),
    *(
        Listed(
            "loops",
            "ListRuns",
            "runs",
            ("evaluate-hazard",),
            _to_evaluate,
            {"loop": "safety", "state": f"RUN_STATE_{state}", "order": "RUN_ORDER_STUCK_FIRST"},
            weighs=tuple(kind for kind, role in KINDS.items() if role == QUALITY),
        )
        for state in ("OPEN", "STALLED")
    ),
    *(
        Listed(
            "rnd",
            "ListParameterSets",
            "versions",
            (kind,),
            rows,
            {"state": f"PARAMETER_SET_STATE_{state}", "oldest_first": True},
        )
        for state, kind, rows in (
            ("DRAFT", "review-set", _drafted),
            ("REVIEWED", "release-set", _reviewed),
        )
    ),
    Listed(
        "rnd",
        "ListFindings",
        "findings",
        ("take-up-finding",),
        _finding,
        {"state": "FINDING_STATE_WAITING", "oldest_first": True},
    ),
    Listed(
        "exchange",
        "ListStudies",
        "studies",
        ("approve-study",),
        _study,
        {"state": "STUDY_STATE_REQUESTED", "oldest_first": True},
    ),
)
