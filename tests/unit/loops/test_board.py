"""The loop board: runs by what they are about, stuck first, with every stage beside its SLO."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import permutations
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.errors import Invalid
from services.kit.runners.reactor import projector
from services.kit.store.memory import AsyncMemoryStore
from services.loops.api import LoopsApi, shown
from services.loops.domain.stages import stamp
from services.loops.handlers import COMMANDS, PROJECTION
from services.loops.views import RUNS, SCOPES
from tests.unit.loops import test_transfer as transfer
from tests.unit.loops.player import START
from tests.unit.loops.test_handlers import _reading
from tests.unit.memory_service import MemoryService, Said

LOT = "maker/gtin/A/L1"
STUCK, CLOSED = api.RUN_ORDER_STUCK_FIRST, loops.RUN_OUTCOME_CLOSED


def _service(*said: Said) -> MemoryService:
    service = MemoryService("loops", projector("runs", PROJECTION, RUNS, SCOPES), COMMANDS)
    service.deliver(*said)
    return service


def _said(message: Message, source: str = "", seq: int = 1, hours: float = 0) -> Said:
    run = str(getattr(message, "run", ""))
    source = source or f"run-{run}"
    return Said(message, source, seq, f"{source}#{seq}", START + timedelta(hours=hours), run=run)


def _safety(run: str, lot: str = LOT, deviation: str = "d") -> Said:
    return _said(loops.SafetyRunOpened(run=run, case=lot, lot=lot, deviation=deviation or run))


def _due(run: str, hours: float, seq: int = 2, stage: str = "trace") -> Said:
    due = stamp(START + timedelta(hours=hours))
    return _said(loops.DeadlineSet(run=run, stage=stage, due=due), seq=seq)


def _stalled(run: str, seq: int = 3) -> Said:
    return _said(loops.LoopStalled(run=run, stage="trace", waiting_for="x"), seq=seq)


def _closed(run: str, seq: int = 4) -> Said:
    return _said(loops.LoopClosed(run=run, outcome=CLOSED), seq=seq)


def _api(service: MemoryService) -> LoopsApi:
    return LoopsApi(cast(Any, SimpleNamespace(store=AsyncMemoryStore(service.database))))


async def _listed(service: MemoryService, **asked: Any) -> list[str]:
    answer = await _api(service).ListRuns(api.ListRunsRequest(**asked), None)
    return [run.run for run in answer.runs]


# -- stages beside their SLO --------------------------------------------------------


def test_a_run_shows_every_stage_with_its_slo_and_when_the_present_one_is_due() -> None:
    player, run = transfer.opened()
    for item in transfer.whole(run)[:2]:
        player.say(*item)
    found = shown(_reading(player).states(RUNS)[run])
    assert [(stage.name, stage.slo_seconds) for stage in found.stages] == [("adapt", 3600), ("advise", 21600)]
    assert (found.stage, found.stage_slo_seconds) == ("sign", 72 * 3600)
    assert found.stage_due.seconds - found.stage_since.seconds == 72 * 3600
    assert [(stage.name, stage.slo_seconds // 86400) for stage in found.next_stages] == [
        ("validate", 30),
        ("produce", 60),
        ("learn", 0),
    ]


def test_a_stage_took_so_long_on_the_platform_clock_whatever_the_wall_says() -> None:
    done = loops.StageCompleted(run="r", stage="trace", began=stamp(START), ended=stamp(START), loop="safety")
    service = _service(_safety("r"), _due("r", 6), _said(done, seq=3, hours=2), _due("r", 9, 4, "receive"))
    found = shown(service.states(RUNS)["r"])
    assert [(one.name, one.seconds, one.platform_seconds) for one in found.stages] == [("trace", 0, 7200)]
    assert (found.stage, found.stage_since.ToDatetime().hour - START.hour) == ("receive", 2)


def test_patients_who_are_given_longer_make_the_slo_longer() -> None:
    service = _service(_safety("r"), _due("r", 73, stage="respond"))
    assert shown(service.states(RUNS)["r"]).stage_slo_seconds == 73 * 3600


def test_a_successor_has_the_stages_of_a_successor() -> None:
    first = _said(loops.SafetyRunOpened(run="r1", case=LOT, lot=LOT, deviation="d"))
    second = _said(loops.SafetyRunOpened(run="r2", case=LOT, lot=LOT, follows="r1"))
    service = _service(_detected(), first, second)
    one, two = (shown(service.states(RUNS)[run]) for run in ("r1", "r2"))
    assert [stage.name for stage in one.next_stages][-3:] == ["propose", "approve", "learn"]
    assert [stage.name for stage in two.next_stages][-1] == "respond"
    assert two.plant == "plant-1", "that of the run which it follows"


def test_an_ended_run_is_due_nowhere() -> None:
    found = shown(_service(_safety("r"), _due("r", 6), _closed("r", 3)).states(RUNS)["r"])
    assert not found.HasField("stage_due")
    assert not found.HasField("stage_since")
    assert (list(found.next_stages), found.stage_slo_seconds) == ([], 0)


# -- order --------------------------------------------------------------------------


def _mixed() -> MemoryService:
    """Opened in this order; two stall, two go on, two are closed."""
    said: list[Said] = []
    for hours, run in (
        (9, "open-late"),
        (30, "open"),
        (5, "stalled"),
        (1, "stalled-long"),
        (6, "old"),
        (6, "new"),
    ):
        said += [_safety(run, f"maker/gtin/A/{run}"), _due(run, hours)]
    said += [_stalled("stalled"), _stalled("stalled-long"), _closed("old"), _closed("new")]
    return _service(*said)


async def test_stuck_runs_come_first_then_those_that_are_late_first_and_the_ended_last() -> None:
    service = _mixed()
    listed = await _listed(service, order=STUCK)
    assert listed[:4] == ["stalled-long", "stalled", "open-late", "open"]
    assert set(listed[4:]) == {"old", "new"}
    assert await _listed(service, order=STUCK, state=api.RUN_STATE_OPEN) == ["open-late", "open"]


async def test_the_stuck_first_order_goes_over_pages() -> None:
    service, token, listed = _mixed(), "", []
    while True:
        request = api.ListRunsRequest(order=STUCK, page_size=2, page_token=token)
        answer = await _api(service).ListRuns(request, None)
        listed += [run.run for run in answer.runs]
        token = answer.next_page_token
        if not token:
            break
    assert listed == await _listed(service, order=STUCK)


async def test_a_run_that_goes_on_is_no_longer_among_the_stuck() -> None:
    service = _mixed()
    done = loops.StageCompleted(run="stalled-long", stage="trace", began=stamp(START), ended=stamp(START))
    service.deliver(_said(done, seq=4), _due("stalled-long", 40, 5, "receive"))
    assert (await _listed(service, order=STUCK))[:4] == ["stalled", "open-late", "open", "stalled-long"]


# -- what it is about -----------------------------------------------------------------


def _detected(deviation: str = "d", equipment: str = "plant-1/dryer-1") -> Said:
    message = production.DeviationDetected(deviation=deviation, lot=LOT, equipment=equipment)
    return _said(message, f"detected-{deviation}")


def _announced(run: str, version: int = 1, **counts: int) -> Said:
    sites = {name.replace("_", "-"): traceability.SiteExposure(n=n) for name, n in counts.items()}
    message = traceability.ExposureAnnounced(run=run, version=version, root=LOT, sites=sites)
    return _said(message, f"journal-{run}", version)


def _orders(said: Iterable[Said]) -> list[tuple[Said, ...]]:
    return list(permutations(said))


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "at the same moment"])
def test_plant_and_sites_are_known_in_whatever_order_they_are_told(together: bool) -> None:
    for order in _orders([_safety("r"), _detected(), _announced("r", a=2, b=0)]):
        service = _service()
        if together:
            service.deliver(*order, together=True)
        else:
            for said in order:
                service.deliver(said)
        found = shown(service.states(RUNS)["r"])
        assert (found.product, found.plant, list(found.sites)) == ("maker/gtin/A", "plant-1", ["a"])


def test_a_successor_is_of_the_plant_of_the_run_it_follows_in_whatever_order() -> None:
    def follows(run: str, other: str) -> Said:
        return _said(loops.SafetyRunOpened(run=run, case=LOT, lot=LOT, follows=other))

    for order in _orders([_safety("r1", LOT, "d"), follows("r2", "r1"), follows("r3", "r2"), _detected()]):
        service = _service()
        for said in order:
            service.deliver(said)
        assert {run.plant for run in service.states(RUNS).values()} == {"plant-1"}


async def test_runs_are_found_by_product_plant_and_site() -> None:
    service = _service(
        _detected("d1"),
        _detected("d2", "plant-2/reactor-1"),
        _safety("r1", LOT, "d1"),
        _safety("r2", "maker/gtin/B/L1", "d2"),
        _announced("r1", 1, a=1, b=0),
        _announced("r1", 2, a=1, b=3),
        _said(
            loops.TransferRunOpened(
                run="t", case="transfer:s/plant-2", product="maker/gtin/A", plant="plant-2"
            )
        ),
        _said(loops.EvidenceRunOpened(run="e", case="study:s", product="maker/gtin/B", sites=["b", "c"])),
    )
    assert set(await _listed(service, product="maker/gtin/A")) == {"r1", "t"}
    assert set(await _listed(service, plant="plant-2")) == {"r2", "t"}
    assert set(await _listed(service, site="b")) == {"r1", "e"}
    assert await _listed(service, site="b", product="maker/gtin/B") == ["e"]
    counted = await _api(service).CountRuns(api.CountRunsRequest(site="b"), None)
    found = {(one.loop, one.state): one.count for one in counted.counts}
    assert len(found) == 9, "three loops in three states"
    assert {place for place, count in found.items() if count} == {
        ("safety", api.RUN_STATE_OPEN),
        ("evidence", api.RUN_STATE_OPEN),
    }


async def test_the_head_of_the_board_counts_each_state() -> None:
    counted = await _api(_mixed()).CountRuns(api.CountRunsRequest(), None)
    assert [one.count for one in counted.counts if one.loop == "safety"] == [2, 2, 2]


@pytest.mark.parametrize(
    ("asked", "field"), [({"product": "A"}, "product"), ({"order": 7}, "order")], ids=["product", "order"]
)
async def test_what_cannot_be_asked_is_refused_by_name(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        await _listed(_service(), **asked)
    assert refusal.value.field == field
