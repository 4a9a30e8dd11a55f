"""From a lot down to its patients: everything once, in order, in messages that any client takes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.errors import Unknown
from services.kit.store.memory import AsyncMemoryStore
from services.traceability import traced, views
from services.traceability.api import TraceabilityApi
from services.traceability.domain.dispense import Dispense, claim_of, claimed
from tests.unit.traceability.driver import Service, dispense, lot, material, registered, started, wrong

SITE = "hospital-a"
PACKS = [f"pack-{n:03d}" for n in range(40)]
#: What a client takes that sets no limit of its own (grpc.max_receive_message_length).
CLIENT_BYTES = 4 * 1024 * 1024
OTHERS = [f"other-{n:03d}" for n in range(300)]


def mixed(*others: str) -> Dispense:
    return claimed(None, "d", claim_of(dispense("d", "pack", SITE, "P-1", possible=others)))


def trace(service: Service, name: str) -> list[api.TraceLotResponse]:
    """The stream of a trace, without its end."""

    async def walk() -> list[api.TraceLotResponse]:
        store = AsyncMemoryStore(service.database)
        found = await store.get(views.NODES, lot(name))
        assert found is not None
        return [part async for level in views.trace(store, found.state) for part in traced.parts(level)]

    return asyncio.run(walk())


def lots(stream: list[api.TraceLotResponse]) -> list[tuple[str, int]]:
    return [(one.lot, one.depth) for part in stream for one in part.lots]


def given(stream: list[api.TraceLotResponse]) -> list[api.TracedDispense]:
    return [one for part in stream for one in part.dispenses]


def test_a_wide_tree_is_walked_whole_by_depth_and_each_dispense_comes_once(service: Service) -> None:
    """More lots at one depth than are read together, and a dispense that may be of the first or the last."""
    for message in (registered(SITE), started("raw"), material("bulk", "raw")):
        service.publish(message)
    for name in PACKS:
        service.publish(material(name, "bulk"))
        service.publish(dispense(f"of-{name}", name, SITE, f"P-{name}"))
    service.publish(dispense("mixed", PACKS[0], SITE, "P-mixed", possible=[PACKS[-1]]))
    service.settle()

    stream = trace(service, "raw")
    assert lots(stream) == [(lot("raw"), 0), (lot("bulk"), 1), *((lot(name), 2) for name in PACKS)]
    told = [one.dispense for one in given(stream)]
    assert sorted(told) == sorted([*(f"of-{name}" for name in PACKS), "mixed"])
    (mixed,) = (one for one in given(stream) if one.dispense == "mixed")
    assert (mixed.lot, list(mixed.possible_lots)) == (lot(PACKS[0]), [lot(PACKS[-1])])


def test_messages_are_few_and_none_is_larger_than_a_client_takes() -> None:
    """A thousand dispenses: once plain, once each possibly of three hundred other lots."""
    plain = list(traced.parts(views.Level(0, [], [mixed()] * 1_000)))
    assert len(plain) < 10
    large = list(traced.parts(views.Level(0, [], [mixed(*OTHERS)] * 1_000)))
    assert sum(part.ByteSize() for part in large) > 2 * CLIENT_BYTES
    assert max(part.ByteSize() for part in large) < CLIENT_BYTES
    for stream in (plain, large):
        assert len(given(stream)) == 1_000


def test_everybody_whom_a_dispense_names_comes_and_one_who_names_nobody_too(service: Service) -> None:
    for message in (registered(SITE), registered("hospital-b"), started("pack")):
        service.publish(message)
    service.publish(dispense("two", "pack", SITE, "P-1", source="pharmacy"))
    service.publish(dispense("two", "pack", "hospital-b", "P-2", source="wholesaler"))
    service.publish(wrong("two", "pack", source="wholesaler"))
    service.publish(dispense("nobody", "pack"))
    service.settle()
    told = {(one.dispense, one.site, one.pseudonym, one.disposition) for one in given(trace(service, "pack"))}
    assert told == {
        ("two", SITE, "P-1", ""),
        ("two", "hospital-b", "P-2", "CORRECTED"),
        ("nobody", "", "", ""),
    }


def _dispense(service: Service, id: str) -> api.GetDispenseResponse:
    found = TraceabilityApi(cast(Any, SimpleNamespace(store=AsyncMemoryStore(service.database))))
    return asyncio.run(found.GetDispense(api.GetDispenseRequest(dispense=id), None))


def test_one_dispense_is_told_without_the_person(service: Service) -> None:
    for message in (registered(SITE), registered("hospital-b"), started("pack"), started("other")):
        service.publish(message)
    service.publish(dispense("two", "pack", SITE, "P-1", source="pharmacy", possible=["other"]))
    service.publish(dispense("two", "pack", "hospital-b", "P-2", source="wholesaler"))
    service.settle()
    told = _dispense(service, "two")
    assert (told.lot, list(told.other_lots)) == (lot("pack"), [lot("other")])
    assert list(told.sites) == [SITE, "hospital-b"]
    assert told.suspect == "CONFLICT"
    service.publish(wrong("two", "pack", source="wholesaler"))
    service.settle()
    told = _dispense(service, "two")
    assert (list(told.sites), told.disposition, told.suspect) == ([SITE], "", "")
    assert told.at.seconds
    assert "P-" not in str(told)


def test_a_dispense_that_nobody_told_of_is_named(service: Service) -> None:
    with pytest.raises(Unknown) as refusal:
        _dispense(service, "nowhere")
    assert (refusal.value.reason, refusal.value.field) == ("UNKNOWN_DISPENSE", "dispense")
