"""The material graph: lots, and which was made from which.

What a record says is stored, whatever it says: edges only ever join, so that
records in any order, and repeated, make the same graph. A lot that is only
referred to is a node like any other, not known yet. A lot that turns out to
be its own ancestor is flagged; whoever walks must remember where it has been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from services.traceability.domain.moments import earliest

CYCLE = "CYCLE"


@dataclass(frozen=True)
class Node:
    """A lot. `made` is the earliest moment a record gives for its making;
    `watches` are the runs of the safety loop that watch it."""

    lot: str
    known: bool = False
    made: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    suspect: str = ""


Nodes = Mapping[str, Node]


def joined(items: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    """The items with those of `more` that are not among them; sorted, so that order leaves no trace."""
    wanted = set(more)
    return items if wanted <= set(items) else tuple(sorted({*items, *wanted}))


def exists(node: Node, at: str) -> Node:
    """A record says that the lot exists, and was made at this moment."""
    return replace(node, known=True, made=earliest(node.made, at))


def watched(node: Node, run: str) -> Node:
    """The run watches the lot; a watch never leaves."""
    return replace(node, watches=joined(node.watches, [run]))


def linked(nodes: Nodes, lot: str, inputs: Iterable[str], at: str) -> dict[str, Node]:
    """The nodes after a record that the lot was made from the inputs."""
    used = sorted(set(inputs))
    made = exists(nodes[lot], at)
    changed = {lot: replace(made, inputs=joined(made.inputs, used))}
    for name in used:
        node = changed.get(name, nodes[name])
        changed[name] = replace(node, outputs=joined(node.outputs, [lot]))
    return changed


def may_close_cycle(nodes: Nodes, lot: str, inputs: Iterable[str]) -> bool:
    """Could new edges into the lot close a cycle? Most cannot: nothing was made from the lot yet."""
    fresh = set(inputs) - set(nodes[lot].inputs)
    return bool(fresh) and (lot in fresh or bool(nodes[lot].outputs))


def on_cycle(ancestors: Nodes, lot: str) -> frozenset[str]:
    """The lots that an edge into `lot` puts on a cycle.

    `ancestors` holds the inputs of that edge with everything they were made
    from: a cycle exists when the lot is among them, and runs through those of
    them that were made from the lot.
    """
    if lot not in ancestors:
        return frozenset()
    found, level = {lot}, [lot]
    while level:
        level = [
            child
            for parent in level
            for child in ancestors[parent].outputs
            if child in ancestors and child not in found
        ]
        found.update(level)
    return frozenset(found)
