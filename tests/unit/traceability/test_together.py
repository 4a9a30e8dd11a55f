"""What two workers fold at the same moment, each without what the other writes, is as if one came first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from google.protobuf.message import Message

from services.traceability.views import DISPENSES, ENTRIES, EXPOSURES, NODES, REGISTRY, RUNS, SUSPECTS
from tests.unit.traceability.driver import Service, dispense, material, opened, registered

#: What was before, and the two facts that meet. Each is told with names of its own (`of`), so that the
#: two fall to different workers.
Meeting = Callable[[Callable[[str], str]], tuple[Sequence[Message], Message, Message]]


def a_site_registers(of: Callable[[str], str]) -> tuple[Sequence[Message], Message, Message]:
    given = dispense(of("d"), of("pack"), of("hospital"), "P-1", source="hospital")
    return [material(of("pack"), of("raw"))], given, registered(of("hospital"))


def a_site_registers_in_a_run(of: Callable[[str], str]) -> tuple[Sequence[Message], Message, Message]:
    before, given, site = a_site_registers(of)
    return [*before, opened("run", of("raw"))], given, site


def a_lot_is_made_later(of: Callable[[str], str]) -> tuple[Sequence[Message], Message, Message]:
    given = dispense(of("d"), of("pack"), "", "", at=1)
    return [dispense(of("d2"), of("pack"), "", "", at=30)], given, material(of("pack"), of("raw"), at=20)


def a_lot_was_made_earlier(of: Callable[[str], str]) -> tuple[Sequence[Message], Message, Message]:
    given = dispense(of("d"), of("pack"), "", "", at=10)
    return [material(of("pack"), of("raw"), at=20)], given, material(of("pack"), of("other"), at=5)


def two_edges_close_a_cycle(of: Callable[[str], str]) -> tuple[Sequence[Message], Message, Message]:
    a, b, c, d = (of(name) for name in "abcd")
    return [material(c, b), material(a, d)], material(b, a), material(d, c)


@contextmanager
def service_after(before: Sequence[Message]) -> Iterator[Service]:
    service = Service()
    try:
        for message in before:
            service.publish(message)
        service.settle()
        yield service
    finally:
        service.close()


def kept(service: Service) -> dict[str, Any]:
    """Everything that is the same whatever came first: not how often a run was stepped."""
    service.settle()
    runs = {name: (run.lots, run.sealed) for name, run in service.states(RUNS).items()}
    heads = {name: (head.lots, head.unattributed) for name, head in service.states(EXPOSURES).items()}
    kinds = (DISPENSES, NODES, SUSPECTS, REGISTRY)
    members = {(e.dispense, e.kind, e.open) for e in service.states(ENTRIES).values() if e.kind == "MEMBER"}
    return {kind.name: service.states(kind) for kind in kinds} | {
        "runs": runs,
        "heads": heads,
        "members": members,
    }


@pytest.mark.parametrize("second_first", [False, True])
@pytest.mark.parametrize(
    "meeting",
    [
        a_site_registers,
        a_site_registers_in_a_run,
        a_lot_is_made_later,
        a_lot_was_made_earlier,
        two_edges_close_a_cycle,
    ],
)
def test_neither_misses_the_other(meeting: Meeting, second_first: bool) -> None:
    for n in range(20):
        before, first, second = meeting(lambda name, n=n: f"{name}{n}")  # type: ignore[misc]
        with service_after(before) as together:
            together.publish(first)
            together.publish(second)
            one, *rest = together.waiting()
            others = [place for place in rest if together.worker(place) != together.worker(one)]
            if not others:
                continue
            if second_first:
                one, others = others[0], [one]
            together.store.interrupt = lambda: together.fold(others[0], 1)  # noqa: B023
            together.fold(one, 1)
            met = kept(together)
        with service_after([*before, first, second]) as after:
            assert met == kept(after)
        return
    raise AssertionError("no names were found that fall to different workers")
