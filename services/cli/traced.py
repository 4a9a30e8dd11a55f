"""What the trace knows of a run: whom a safety run concerns, site by site, and what led to what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.plain import brief, plain
from services.cli.session import Failure, Session
from services.cli.tables import Sheet, table
from services.kit.hops import own, thing_of

#: Events of the lineage that are asked for, and of the run's own how many people are shown.
_ASKED, _SHOWN = 500, 60
#: So much of a digest is shown; programs get all of it.
_DIGEST = 16
_COUNTS = (
    ("dispenses to patients", "people", "dispenses"),
    ("exposed patients", "people", "patients"),
    ("who know", "people", "notified"),
    ("plans", "answers", "plans"),
    ("answered", "answers", "answered"),
)


@dataclass(frozen=True)
class Traced:
    """The exposure of a safety run and the hops of any; None where the trace does not tell them now."""

    exposure: dict[str, Any] | None
    hops: list[dict[str, Any]] | None

    def document(self) -> dict[str, Any]:
        return {"exposure": self.exposure, "hops": self.hops}

    def show(self, out: Console) -> None:
        if self.exposure:
            out.print()
            out.print(table("Counts", ["what", "value"], _counts(self.exposure)))
            out.print()
            out.print(_sites(self.exposure))
        if self.hops:
            out.print()
            out.print(_hops(self.hops))


def traced(session: Session, run: loops.Run) -> Traced:
    """What the trace tells of the run; the run is shown without what does not answer."""
    kind, id = thing_of(run)
    exposure = hops = None
    if run.loop == "safety":
        exposure = _answer(session, "GetExposure", trace.GetExposureRequest(run=run.run))
    lineage = _answer(session, "GetLineage", trace.GetLineageRequest(id=id, kind=kind, most=_ASKED))
    if lineage is not None:
        hops = [plain(hop) for hop in own(lineage.hops, kind, id)]
    return Traced(plain(exposure) if exposure else None, hops)


def _answer(session: Session, method: str, request: Any) -> Any:
    try:
        return session.call(getattr(session.traceability, method), request)
    except Failure:
        return None


def _counts(found: dict[str, Any]) -> list[list[str]]:
    """The run as a whole: its journal, and how many people, as it may be published."""
    told = found["announced"] or {}
    rows = [
        ["exposure journal", f"{found['phase'] or '-'}, version {told.get('version', 0)}"],
        ["implicated lots", str(len(told.get("lots") or ()))],
        ["not firm yet", str(len(found["not_firm"]))],
        ["name nobody", f"{told.get('unattributed', 0)}, explained {told.get('explained', 0)}"],
    ]
    return rows + [[name, _count((found[of] or {}).get(field))] for name, of, field in _COUNTS]


def _sites(found: dict[str, Any]) -> Sheet:
    """Each site of the journal: its epoch and digest, and its people."""
    journal = (found["announced"] or {}).get("sites") or {}
    people = {one["site"]: one for one in found["sites"]}
    rows = [
        [
            name,
            str(journal[name]["epoch"]) if name in journal else "-",
            *(_of_site(people.get(name), field) for field in ("dispenses", "patients", "notified")),
            journal[name]["digest"][:_DIGEST] or "-" if name in journal else "-",
        ]
        for name in sorted({*journal, *people})
    ]
    columns = ["site", "epoch", "dispenses", "patients", "know", f"digest ({_DIGEST} of 64)"]
    return table("Sites of the journal", columns, rows)


def _of_site(one: dict[str, Any] | None, field: str) -> str:
    """A number of a site; before it told its own, only its dispenses are known."""
    if one is None or not (one["told"] or field == "dispenses"):
        return "-"
    return _count((one["people"] or {}).get(field))


def _count(told: dict[str, Any] | None) -> str:
    if told is None:
        return "-"
    return "withheld" if told["withheld"] else str(told["value"])


def _hops(hops: list[dict[str, Any]]) -> Sheet:
    """The run's own events by time, the newest of them; a lot is started at its plant's time."""
    shown = hops[-_SHOWN:]
    rows = [
        [
            " ".join(filter(None, (one["type"].rpartition(".")[2], one["site"]))),
            brief(one["plant_at"] or one["at"]),
            brief(one["recorded_at"]),
        ]
        for one in shown
    ]
    more = f", the latest {len(shown)} of {len(hops)}" if len(shown) < len(hops) else ""
    return table(f"What led to what{more} (UTC)", ["event", "domain time", "wall time"], rows)
