"""The way to a case and from it: what is routed where, what people read of a run, how they end one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import pytest
from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.errors import Invalid, Rejected
from services.kit.ids import study_case, transfer_case
from services.kit.runners.reactor import Reactor, projector
from services.kit.work import STEPS
from services.loops.api import shown
from services.loops.domain.runs import CLOSED, OPEN, STALLED, outcome_word
from services.loops.handlers import CASE_TOPIC, COMMANDS, DEADLINE_EVENTS, PROJECTION, ROUTER
from services.loops.views import CANCELS, RUNS
from tests.unit.loops import test_evidence as study
from tests.unit.loops import test_transfer as transfer
from tests.unit.loops.player import START, Player
from tests.unit.memory_service import MemoryService, Said

CASE = transfer_case("set/1", "plant b")


def _said(message: Message, source: str = "somebody", seq: int = 1) -> Said:
    run = str(getattr(message, "run", ""))
    return Said(message, source, seq, f"{source}-{seq}", START, run=run)


def _service(events: Reactor) -> MemoryService:
    return MemoryService("loops", events, COMMANDS)


# -- the router -----------------------------------------------------------------

ROUTES: list[tuple[Message, str]] = [
    (rnd.ParameterSetReleased(set="set/1", plant="plant b"), CASE),
    (rnd.ParameterSetWithdrawn(set="set/1", plant="plant b"), CASE),
    (production.TwinAdapted(transfer=CASE), CASE),
    (production.TransferRefused(transfer=CASE), CASE),
    (production.OptimisationProposed(transfer=CASE), CASE),
    (production.OptimisationDecided(transfer=CASE), CASE),
    (production.RecipeEffective(transfer=CASE), CASE),
    (production.TransferOutcomeRecorded(transfer=CASE), CASE),
    (rnd.PredictionCalibrated(calibration="c", transfer=CASE), CASE),
    (exchange.StudyRequested(study="s"), study_case("s")),
    (exchange.StudyApproved(study="s"), study_case("s")),
    (exchange.StudyRefused(study="s"), study_case("s")),
    (exchange.JobOpened(study="s"), study_case("s")),
    (exchange.CohortFrozen(study="s"), study_case("s")),
    (exchange.JobAudited(study="s"), study_case("s")),
    (exchange.JobEnded(study="s"), study_case("s")),
    (exchange.InsightPublished(study="s"), study_case("s")),
    (exchange.StudyStopped(study="s"), study_case("s")),
    (exchange.StudyExpired(study="s"), study_case("s")),
    (rnd.HypothesisUpdated(hypothesis="h", study="s"), study_case("s")),
    (rnd.InsightDeclined(insight="i", study="s"), study_case("s")),
]


@pytest.mark.parametrize(("message", "case"), ROUTES, ids=[type(m).__name__ for m, _ in ROUTES])
def test_what_concerns_a_case_comes_to_its_topic_as_it_was(message: Message, case: str) -> None:
    service = _service(Reactor("router", ROUTER))
    service.deliver(_said(message, seq=7))
    (row,) = service.rows()
    (event,) = service.events()
    assert (row.topic, row.key, event.case) == (CASE_TOPIC, case.encode(), case)
    assert (event.message, event.source, event.seq) == (message, "somebody", 7)


@pytest.mark.parametrize(
    "message",
    [
        rnd.ParameterSetWithdrawn(set="never-released"),
        rnd.PredictionCalibrated(calibration="c"),
        rnd.HypothesisUpdated(hypothesis="h"),
        rnd.InsightDeclined(insight="i"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_concerns_no_case_stays_where_it_is(message: Message) -> None:
    service = _service(Reactor("router", ROUTER))
    service.deliver(_said(message))
    assert service.rows() == []


def test_what_names_no_transfer_is_a_dead_letter_and_reaches_no_lot() -> None:
    service = _service(Reactor("router", ROUTER))
    service.deliver(_said(production.TwinAdapted(transfer="m/gtin/1/7")))
    (letter,) = service.dead_letters()
    assert dict(letter.headers)["dlq_reason"] == b"NO_TRANSFER"
    assert service.rows() == [letter]


# -- what people read -------------------------------------------------------------


def _reading(player: Player) -> MemoryService:
    """What the runs' projection has after all that a machine emitted."""
    service = _service(projector("runs", PROJECTION, RUNS))
    kinds = tuple(PROJECTION)
    service.deliver(
        *(
            Said(e.message, e.source + e.run, e.seq, e.id, e.time, e.case, e.run)
            for e in player.out
            if isinstance(e.message, kinds)
        )
    )
    return service


def _transfer(heard: int) -> tuple[Player, str]:
    player, run = transfer.opened()
    for item in transfer.whole(run)[:heard]:
        player.say(*item)
    return player, run


def test_a_transfer_is_read_with_its_loop_its_case_and_the_stage_it_is_in() -> None:
    player, run = _transfer(3)
    player.say(loops.DeadlinePassed(run=run, case=transfer.CASE, stage="validate"))
    view = _reading(player).states(RUNS)[run]
    assert (view.loop, view.case, view.state) == ("transfer", transfer.CASE, STALLED)
    assert (view.stage, [stage.name for stage in view.stages]) == ("validate", transfer.STAGES[:3])
    found = shown(view)
    assert (found.loop, found.case, found.HasField("opened")) == ("transfer", transfer.CASE, False)
    assert (found.opened_transfer.version, found.HasField("opened_evidence")) == (1, False)


def test_a_study_is_read_until_its_end() -> None:
    player, run = study.opened()
    assert _reading(player).states(RUNS)[run].stage == "approve"
    for item in [*study.approved(), *study.job(), *study.found()]:
        player.say(*item)
    view = _reading(player).states(RUNS)[run]
    assert (view.loop, view.case, view.state, view.stage) == ("evidence", study.CASE, CLOSED, "")
    assert [stage.name for stage in view.stages] == study.STAGES
    found = shown(view)
    assert (found.opened_evidence.study, found.closed.insight) == (study.STUDY, "i")
    assert not found.HasField("opened")


def test_a_safety_run_is_read_as_before() -> None:
    service = _service(projector("runs", PROJECTION, RUNS))
    lot = "m/item/G/1"
    service.deliver(_said(loops.SafetyRunOpened(run="r", case=lot, lot=lot, deviation="d")))
    found = shown(service.states(RUNS)["r"])
    assert (found.loop, found.case, found.opened.deviation, found.stage) == ("safety", lot, "d", "trace")
    assert not found.HasField("opened_transfer")


def test_how_a_run_ended_is_counted_by_its_own_word() -> None:
    ends = [loops.LoopClosed(outcome=outcome) for outcome in loops.RunOutcome.keys()[1:]]
    assert [outcome_word(ended) for ended in ends] == [
        "closed",
        "cancelled",
        "superseded",
        "refused",
        "withdrawn",
        "declined",
        "stopped",
        "expired",
    ]


# -- deadlines --------------------------------------------------------------------


def test_a_stage_of_each_loop_has_its_deadline_until_it_or_the_run_ends() -> None:
    service = _service(Reactor("deadlines", DEADLINE_EVENTS))
    player, run = _transfer(0)
    told = iter(range(1, 100))

    def deliver() -> None:
        said = [
            Said(e.message, f"{e.source}{e.run}", next(told), e.id, e.time, e.case, e.run) for e in player.out
        ]
        service.deliver(*(one for one in said if type(one.message) in DEADLINE_EVENTS))
        player.out.clear()

    deliver()
    (step,) = service.states(STEPS).values()
    assert step.payload == {"case": transfer.CASE, "stage": "adapt", "run": run}
    player.say(*transfer.whole(run)[0])
    deliver()
    (step,) = service.states(STEPS).values()
    assert step.payload["stage"] == "advise"
    passed = loops.DeadlinePassed(**step.payload)
    service.command("PassDeadline", passed, START)
    assert service.events()[-1].case == transfer.CASE
    player.say(transfer.withdrawn(1), "set", 2)
    deliver()
    assert not service.states(STEPS)


# -- ending a run by hand -------------------------------------------------------


def _cancel(service: MemoryService, run: str, by: str = "") -> None:
    request = api.CancelRunRequest(run=run, reason="opened by mistake", superseded_by=by)
    service.command("CancelRun", request, START, "head-of-quality")


@pytest.mark.parametrize("make", [transfer.opened, study.opened], ids=["transfer", "evidence"])
def test_a_person_ends_a_run_of_any_loop_and_its_case_hears_of_it(
    make: Callable[[], tuple[Player, str]],
) -> None:
    player, run = make()
    service = _reading(player)
    _cancel(service, run)
    (asked,) = service.events()
    assert (asked.case, asked.run) == (player.case, run)
    player.say(asked.message)
    assert player.endings() == [(run, "CANCELLED")]
    service = _reading(player)
    with pytest.raises(Rejected, match="ended already"):
        _cancel(service, run)


def test_a_run_is_covered_by_a_run_of_its_own_loop_and_product_that_was_not_given_up() -> None:
    player, first = _transfer(2)
    player.say(transfer.released(2), "set", 2)
    second = player.told(loops.TransferRunOpened)[1].run
    other, request = study.opened()
    player.out += other.out
    foreign = loops.TransferRunOpened(run="foreign", case=CASE, product="another")
    beside = loops.TransferRunOpened(run="beside", case=CASE, product=transfer.PRODUCT)
    service = _reading(player)
    service.deliver(_said(foreign, "foreign"), _said(beside, "beside"))
    with pytest.raises(Invalid, match="does not cover itself"):
        _cancel(service, second, second)
    for by, why in (
        (first, "given up itself"),
        (request, "evidence loop"),
        ("foreign", "product 'another'"),
    ):
        with pytest.raises(Rejected, match=why):
            _cancel(service, second, by)
    assert not service.states(CANCELS)
    _cancel(service, second, "beside")
    assert service.all(loops.RunCancelRequested)[0].superseded_by == "beside"
    assert service.states(RUNS)[second].state == OPEN, "the machine ends it"


def test_the_time_of_a_deadline_is_platform_time() -> None:
    player, _ = _transfer(0)
    (due,) = player.told(loops.DeadlineSet)
    assert (due.due.ToDatetime(UTC) - START).total_seconds() == 3600
