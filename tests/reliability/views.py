"""Every view of a world made anew while it serves: the new rows must be the old ones, byte for byte.

But for one number: how often a handler has written a row depends on the order
in which topics were read (a run is judged anew by a model that comes late).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bson
import grpc

from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import operations_pb2_grpc as operations_grpc
from services.kit.ids import new_id
from services.kit.rpc.client import metadata
from tests.reliability.specs import SPECS, database_of
from tests.reliability.world import World, until

_CALL_SECONDS = 10.0
_WRITINGS = "v"


def views() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(service, view, the kinds of its rows) of all that can be made anew."""
    for service, spec in SPECS.items():
        for reactor in spec.reactors:
            if reactor.views:
                yield service, f"{spec.name}.{reactor.name}", tuple(kind.name for kind in reactor.views)


def rebuild_every_view(world: World) -> None:
    """Rebuild each and compare; the platform must be at rest."""
    for service, view, kinds in views():
        before = {kind: _rows(world, service, kind, _live(world, service, view)) for kind in kinds}
        live = _rebuilt(world, service, view)
        for kind in kinds:
            after = _rows(world, service, kind, live)
            assert after.keys() == before[kind].keys(), f"{view}: {kind} has other rows after its rebuild"
            changed = {id: (before[kind][id], row) for id, row in after.items() if row != before[kind][id]}
            assert not changed, f"{view}: {kind} differs after a rebuild: {_told(changed)}"


def _told(changed: dict[str, tuple[bytes, bytes]]) -> list[str]:
    """Of the first few rows, which fields are not the same."""
    told = []
    for id, rows in list(changed.items())[:3]:
        old, new = (bson.decode(row) for row in rows)
        both = {name: (old.get(name), new.get(name)) for name in old | new}
        fields = {name: values for name, values in both.items() if values[0] != values[1]}
        told.append(f"{id}: {str(fields or 'the order of its fields')[:400]}")
    return told


def _stub(channel: grpc.Channel) -> Any:
    return operations_grpc.OperationsServiceStub(channel)


def _view(world: World, service: str, view: str) -> operations.View:
    with grpc.insecure_channel(world.address(service)) as channel:
        answer = _stub(channel).ListViews(operations.ListViewsRequest(), timeout=_CALL_SECONDS)
    found: operations.View = next(one for one in answer.views if one.view == view)
    return found


def _live(world: World, service: str, view: str) -> int:
    return _view(world, service, view).live


def _rebuilt(world: World, service: str, view: str) -> int:
    """Rebuild; answers the making that is live then."""
    request = operations.RebuildViewRequest(request_id=new_id(), view=view)
    with grpc.insecure_channel(world.address(service)) as channel:
        begun = _stub(channel).RebuildView(request, timeout=_CALL_SECONDS, metadata=metadata("qa")).view
    assert begun.building > begun.live

    def swapped() -> bool:
        now = _view(world, service, view)
        return now.live == begun.building and not now.building

    until(f"{view} is made anew", swapped, 60, pause=0.2)
    return int(begun.building)


def _rows(world: World, service: str, kind: str, generation: int) -> dict[str, bytes]:
    """The stored bytes of each row, by id."""
    name = kind if generation == 1 else f"{kind}~{generation}"
    found = world.database[database_of(service)][name].find()
    return {str(row["_id"]): bson.encode({key: row[key] for key in row if key != _WRITINGS}) for row in found}
