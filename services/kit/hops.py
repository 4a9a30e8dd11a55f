"""What led to what in a run: the hops of a lineage that are its own, by time.

One rule for the portal and the command. Runs and hops are read by the names of their fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def thing_of(run: Any) -> tuple[str, str]:
    """The thing of the lineage that a run is: its kind and id."""
    if run.loop == "transfer":
        return "transfer", str(run.case)
    if run.loop == "evidence":
        return "study", str(run.opened_evidence.study or run.case.partition(":")[2])
    return "run", str(run.run)


def own(hops: Iterable[Any], kind: str, id: str) -> list[Any]:
    """The hops of a run, by time: what triggered it, what is about it, and what came of it.

    Lots are where a run ends: what is made of a lot is another story.
    """
    hops = list(hops)
    mine = {(kind, id)}
    found = []
    for hop in hops:
        froms = {(one.kind, one.id) for one in hop.comes_from}
        tos = {(one.kind, one.id) for one in hop.leads_to}
        if not mine & (froms | tos):
            continue
        found.append(hop)
        if mine & froms:
            mine |= {one for one in tos if one[0] not in ("lot", "product", "molecule")}
    causes = {hop.cause for hop in found} - {hop.event for hop in found}
    before = [hop for hop in hops if hop.event in causes]
    return in_order([*before, *found])


def in_order(hops: Iterable[Any]) -> list[Any]:
    """Hops by time; of those of one moment a cause before its effect."""
    hops = list(hops)
    known = {hop.event: hop for hop in hops}

    def depth(hop: Any) -> int:
        steps, seen = 0, {hop.event}
        while (cause := known.get(hop.cause)) is not None and cause.at == hop.at and cause.event not in seen:
            seen.add(cause.event)
            hop, steps = cause, steps + 1
        return steps

    return sorted(hops, key=lambda hop: (hop.at.seconds, hop.at.nanos, depth(hop)))
