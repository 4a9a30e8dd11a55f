"""The genealogy of a lot step by step: its neighbours by kind and page, and where in it others are."""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.errors import Invalid
from services.kit.ids import in_kit
from services.kit.store.protocol import AsyncStore
from services.traceability import traced
from services.traceability.domain import kin
from services.traceability.domain.graph import Node
from services.traceability.views import NODES

_USUAL, _MOST, _MOST_FOUND = 100, 1000, 100
#: A search reads so many lots, and so many by one query.
_MOST_READ, _TOGETHER = 20_000, 500
_LONGEST_TEXT = 200
_INPUTS, _OUTPUTS = api.MATERIAL_STEP_INPUTS, api.MATERIAL_STEP_OUTPUTS


async def listed(
    store: AsyncStore, node: Node, request: api.ListNeighboursRequest
) -> api.ListNeighboursResponse:
    """The kinds one step from the lot, and a page of the lots of one kind."""
    if request.step not in (_INPUTS, _OUTPUTS):
        raise Invalid("REQUIRED", "say which way: to the inputs or to the outputs", "step")
    size = request.page_size or _USUAL
    if not 0 < size <= _MOST:
        raise Invalid("OUT_OF_RANGE", f"ask for 1 to {_MOST} lots", "page_size")
    around = _around(node, request.step)
    answer = api.ListNeighboursResponse(
        lot=_neighbour(node),
        kinds=[api.NeighbourKind(kind=kind, lots=lots) for kind, lots in kin.kinds(around)],
    )
    if request.kind:
        if request.page_token and not kin.among(around, request.page_token):
            raise Invalid("BAD_PAGE_TOKEN", "it is no lot next to this one; begin without it", "page_token")
        lots, answer.before, answer.next_page_token = kin.part(around, request.kind, request.page_token, size)
        nodes = {found.id: found.state for found in await store.among(NODES, "_id", lots)}
        answer.lots.extend(_neighbour(nodes.get(lot, Node(lot))) for lot in lots)
    return answer


async def searched(
    store: AsyncStore, root: Node, request: api.FindInGenealogyRequest
) -> api.FindInGenealogyResponse:
    """Lots whose key has the text, those that are nearest first: above the lot, then below it."""
    text = request.text.strip().casefold()
    if not text or len(text) > _LONGEST_TEXT:
        raise Invalid("OUT_OF_RANGE", f"write 1 to {_LONGEST_TEXT} letters of a lot's key", "text")
    if not 0 <= request.most <= _MOST_FOUND:
        raise Invalid("OUT_OF_RANGE", f"ask for 1 to {_MOST_FOUND} lots", "most")
    most = request.most or _MOST_FOUND
    found: list[api.FoundLot] = []
    if kin.matches(root.lot, text):
        found.append(api.FoundLot(lot=root.lot, way=[root.lot]))
    room, complete = _MOST_READ, True
    for step in (_INPUTS, _OUTPUTS):
        search = _Search(store, root, step, text)
        await search.go(most - len(found), room)
        found += [api.FoundLot(lot=lot, step=step, way=kin.way(search.parents, lot)) for lot in search.found]
        room -= search.read
        complete = complete and search.complete
    return api.FindInGenealogyResponse(lots=found, complete=complete)


class _Search:
    """A walk one way, level by level; keys are known a level before their lots are read."""

    def __init__(self, store: AsyncStore, root: Node, step: api.MaterialStep, text: str) -> None:
        self._store, self._root, self._step, self._text = store, root, step, text
        self.parents: dict[str, str] = {}
        self.found: list[str] = []
        self.read, self.complete = 0, True

    async def go(self, most: int, room: int) -> None:
        """Find so many lots at most, and read no more than there is room for."""
        level = self._reached([self._root])
        while level:
            for lot in level:
                if kin.matches(lot, self._text):
                    if len(self.found) >= most:
                        self.complete = False
                        return
                    self.found.append(lot)
            following: list[str] = []
            for first in range(0, len(level), _TOGETHER):
                some = level[first : first + _TOGETHER]
                if self.read + len(some) > room:
                    self.complete = False
                    return
                self.read += len(some)
                stored = await self._store.among(NODES, "_id", some)
                following += self._reached([one.state for one in stored])
            level = sorted(following)

    def _reached(self, nodes: Sequence[Node]) -> list[str]:
        """Lots one step on that no lot before led to."""
        found = []
        for node in sorted(nodes, key=lambda node: node.lot):
            for lot in _around(node, self._step):
                if lot != self._root.lot and lot not in self.parents:
                    self.parents[lot] = node.lot
                    found.append(lot)
        return found


def _around(node: Node, step: api.MaterialStep) -> tuple[str, ...]:
    return traced.shown_inputs(node) if step == _INPUTS else node.outputs


def _neighbour(node: Node) -> api.Neighbour:
    return api.Neighbour(
        lot=node.lot,
        known=node.known,
        suspect=node.suspect,
        inputs=len(traced.shown_inputs(node)),
        outputs=len(node.outputs),
        inputs_withheld=in_kit(node.lot),
    )
