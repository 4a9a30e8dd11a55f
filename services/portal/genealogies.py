"""The lots around a lot: what went into it, and everything that was made from it, asked of the trace."""

from __future__ import annotations

import asyncio
from typing import Any

from services.portal.backend import Backend, Refused
from services.portal.drawing.genealogy import Node

#: Lots that are drawn below a lot, and above it. Above there are few: a lot is made from a handful.
MOST_BELOW = 20_000
_MOST_ABOVE = 200
_MOST_STEPS = 8


async def around(backend: Backend, lot: str) -> tuple[list[Node], bool]:
    """Lots above and below with the steps between, and whether these are all. Names no dispense."""
    (below, complete), (above, all_above) = await asyncio.gather(
        backend.rows("traceability", "TraceLot", "lots", most=MOST_BELOW, lot=lot), _above(backend, lot)
    )
    nodes = [
        Node(one.lot, one.depth, tuple(one.inputs), known=one.known, suspect=one.suspect) for one in below
    ]
    drawn = {node.lot for node in nodes}
    return [node for node in above if node.lot not in drawn] + nodes, complete and all_above


async def _above(backend: Backend, lot: str) -> tuple[list[Node], bool]:
    """What went into a lot, step by step, by the shortest way; the lot itself is not among it."""
    seen = {lot}
    found: list[Node] = []
    step = [lot]
    for depth in range(_MOST_STEPS + 1):
        answers = await asyncio.gather(*(_node(backend, one) for one in step))
        if depth:
            found += [_read(one, answer, depth) for one, answer in zip(step, answers, strict=True)]
        inputs = [one for answer in answers if answer is not None for one in answer.inputs]
        step = [one for one in dict.fromkeys(inputs) if one not in seen]
        seen.update(step)
        if not step:
            return found, True
        if len(seen) > _MOST_ABOVE:
            break
    return found, False


def _read(lot: str, answer: Any, depth: int) -> Node:
    if answer is None:
        return Node(lot, -depth, known=False)
    return Node(lot, -depth, tuple(answer.inputs), known=answer.known, suspect=answer.suspect)


async def _node(backend: Backend, lot: str) -> Any:
    try:
        return await backend.ask("traceability", "GetLotNode", lot=lot)
    except Refused as refused:
        if refused.unknown:
            return None
        raise
