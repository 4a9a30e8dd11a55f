"""One record of an exchange between two services is lost for one consumer: somebody notices.

Every event type of the protocol is lost for every service that takes it, in
worlds where nothing else goes wrong. When such a world has come to rest, no
run has closed with a patient, lot, plan or notice missing, and a run that did
not close says what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from random import Random

import pytest

from tests.reliability.sim.losses import Exchange, Told, amiss_without, exchanges, told_in
from tests.reliability.sim.story import tell
from tests.reliability.sim.verdict import workers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
#: The last one has a study whose time runs out.
#: In that below 0 a corrective action is refused.
_SEEDS = (*range(12), 25, -3)
#: So many records of each exchange are lost, each in a world of its own.
_LOSSES = 2
_REPORT = Exchange("DispenseRecorded", "traceability.fold")

Loss = tuple[int, Told]
Found = dict[Exchange, list[tuple[Loss, Future[list[str]]]]]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with workers() as made:
        yield made


@pytest.fixture(scope="module")
def told(pool: ProcessPoolExecutor) -> dict[Exchange, list[Loss]]:
    """What can be lost: of every exchange the records, with their seeds."""
    found: dict[Exchange, list[Loss]] = {}
    for seed, exchanged in zip(_SEEDS, pool.map(told_in, _SEEDS), strict=True):
        for exchange, records in exchanged.items():
            found.setdefault(exchange, []).extend((seed, record) for record in records)
    return found


def _after_everything(seed: int, record: Told) -> bool:
    """Is it a hospital's word of a dispense that it recorded when its runs may be closed already?"""
    return any(given.late and given.id == record.subject for given in tell(seed).given)


@pytest.fixture(scope="module")
def found(pool: ProcessPoolExecutor, told: dict[Exchange, list[Loss]]) -> Found:
    """What is amiss without some records of every exchange, all begun at once."""
    result: Found = {}
    for exchange in exchanges():
        losses = told.get(exchange, [])
        picked = Random(f"{exchange}").sample(losses, min(len(losses), _LOSSES))
        result[exchange] = [(loss, pool.submit(amiss_without, loss[0], exchange, loss[1])) for loss in picked]
    return result


@pytest.mark.parametrize("exchange", exchanges(), ids=" ".join)
def test_a_lost_exchange_is_noticed_before_a_run_closes(found: Found, exchange: Exchange) -> None:
    assert found[exchange], "no world exchanges it: nothing was lost"
    for (seed, record), wrong in found[exchange]:
        assert not wrong.result(), f"seed {seed} without {record}"


def test_what_a_hospital_tells_after_every_run_closed_is_noticed_when_it_is_lost(
    pool: ProcessPoolExecutor, told: dict[Exchange, list[Loss]]
) -> None:
    """The runs closed rightly, and wait for nobody: the successor is named all the same."""
    late = [loss for loss in told[_REPORT] if _after_everything(*loss)]
    assert late
    wrong = pool.map(amiss_without, *zip(*((seed, _REPORT, record) for seed, record in late), strict=True))
    assert not any(wrong)
