"""The holds of a lot, past ones too, from what its dossier tells of its process."""

from __future__ import annotations

from typing import Any

from pharmaloop.traceability.v1 import dossier_pb2 as page
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.plain import iso
from services.cli.session import Refused, Session

_ENDS = {"RELEASED": "released", "REJECTED": "rejected"}
#: The document where nothing is known of holds.
NO_HOLDS: dict[str, Any] = {"holds": None, "older_steps_left_out": None}


def holds_of(session: Session, lot: str) -> dict[str, Any] | None:
    """The holds, oldest first, and how many older steps the trace no longer tells; None where it knows none.

    Each is {held, by, why, end, ended, ended_by, ended_why}; `end` is "released" or "rejected", null while it
    lasts. A lot that the trace has not heard of yet, and a trace older than this command, tell nothing.
    """
    request = trace.GetLotDossierRequest(lot=lot)
    try:
        process = session.call(session.traceability.GetLotDossier, request).dossier.process
    except Refused as error:
        if error.code.name not in ("NOT_FOUND", "UNIMPLEMENTED"):
            raise
        return None
    return {"holds": paired(process), "older_steps_left_out": process.left_out}


def paired(process: page.ProcessSection) -> list[dict[str, Any]]:
    """Each hold with what ended it."""
    found: list[dict[str, Any]] = []
    for step in process.steps:
        told = (iso(step.at), step.who or None, step.why or None)
        lasts = bool(found) and found[-1]["end"] is None
        if step.what == "HELD":
            held = dict(zip(("held", "by", "why"), told, strict=True))
            found.append({**held, "end": None, "ended": None, "ended_by": None, "ended_why": None})
        elif step.what in _ENDS and lasts:
            ended = dict(zip(("ended", "ended_by", "ended_why"), told, strict=True))
            found[-1] |= {"end": _ENDS[step.what], **ended}
    return found


def sentences(told: dict[str, Any] | None) -> list[str]:
    """The holds for people, a line each."""
    if told is None:
        return []
    lines = [_sentence(hold) for hold in told["holds"]]
    if told["older_steps_left_out"]:
        lines.append(f"({told['older_steps_left_out']} older steps of the lot are left out)")
    return lines


def _sentence(hold: dict[str, Any]) -> str:
    begun = f"{hold['held'] or '-'} by {hold['by'] or '-'}: {hold['why'] or '-'}"
    if hold["end"] is None:
        return f"{begun}; it lasts"
    why = f": {hold['ended_why']}" if hold["ended_why"] else ""
    return f"{begun}; {hold['end']} {hold['ended'] or '-'} by {hold['ended_by'] or '-'}{why}"
