"""The transfer machine alone: each way that a transfer ends, in whatever order things are heard."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.ids import transfer_case
from tests.unit.loops.player import Player, Said

SET, PLANT, PRODUCT = "warfarin/process", "plant-b", "m/item/G"
CASE = transfer_case(SET, PLANT)
STAGES = ["adapt", "advise", "sign", "validate", "produce", "learn"]


def released(version: int = 1) -> rnd.ParameterSetReleased:
    return rnd.ParameterSetReleased(set=SET, version=version, product=PRODUCT, plant=PLANT)


def withdrawn(version: int = 1) -> rnd.ParameterSetWithdrawn:
    return rnd.ParameterSetWithdrawn(
        set=SET,
        version=version,
        plant=PLANT,
        actor="head-of-research",
        reason="a wrong unit",
        meaning="I take it back",
    )


def opened(version: int = 1) -> tuple[Player, str]:
    """A case with a release, and its run."""
    player = Player(CASE)
    player.say(released(version), "set", version)
    return player, player.told(loops.TransferRunOpened)[-1].run


def whole(run: str, version: int = 1) -> list[Said]:
    """What the others say of a transfer that goes well."""
    of: dict[str, Any] = {"transfer": CASE, "run": run}
    lot = f"{PRODUCT}/lot-{version}"
    return [
        (production.TwinAdapted(**of, version=version), "twin", 1),
        (production.OptimisationProposed(**of, proposal="p"), "advice", 1),
        (production.OptimisationDecided(**of, proposal="p"), "decision", 1),
        (production.RecipeEffective(**of, version=version), "recipe", 1),
        (production.TransferOutcomeRecorded(**of, lot=lot), "outcome", 1),
        (rnd.PredictionCalibrated(transfer=CASE, lot=lot), "calibration", 1),
    ]


def test_a_release_opens_a_run_that_names_it() -> None:
    player, run = opened()
    assert player.told(loops.TransferRunOpened) == [
        loops.TransferRunOpened(
            run=run, case=CASE, set=SET, version=1, product=PRODUCT, plant=PLANT, trigger=player.fed[0].id
        )
    ]


@given(st.randoms(use_true_random=False))
def test_any_order_across_sources_and_any_repeat_closes_the_run_alike(chance: random.Random) -> None:
    player, run = opened()
    player.shuffled(whole(run), chance)
    assert player.stages() == STAGES
    assert player.told(loops.LoopClosed) == [
        loops.LoopClosed(
            run=run,
            case=CASE,
            outcome=loops.RUN_OUTCOME_CLOSED,
            loop="transfer",
            set=SET,
            version=1,
            plant=PLANT,
            lots=[f"{PRODUCT}/lot-1"],
        )
    ]
    player.check("transfer")


@pytest.mark.parametrize("missing", range(6))
def test_a_run_waits_for_what_is_missing_and_says_so_when_it_is_late(missing: int) -> None:
    player, run = opened()
    said = whole(run)
    for item in [*said[:missing], *said[missing + 1 :]]:
        player.say(*item)
    stage = STAGES[missing]
    assert player.stages() == STAGES[:missing]
    player.say(loops.DeadlinePassed(run=run, case=CASE, stage="no such stage"))
    assert not player.told(loops.LoopStalled)
    player.say(loops.DeadlinePassed(run=run, case=CASE, stage=stage))
    (stalled,) = player.told(loops.LoopStalled)
    assert (stalled.run, stalled.case, stalled.stage) == (run, CASE, stage)
    assert stalled.waiting_for
    player.say(*said[missing])
    assert player.endings() == [(run, "CLOSED")]
    player.check("transfer")


def test_each_stage_has_its_time() -> None:
    player, run = opened()
    for item in whole(run):
        player.say(*item)
    hours = [1, 6, 72, 30 * 24, 60 * 24, 6]
    assert player.deadlines() == [(s, timedelta(hours=h)) for s, h in zip(STAGES, hours, strict=True)]


def test_a_refused_advice_goes_on_with_the_adapted_recipe() -> None:
    player, run = opened()
    for item in whole(run)[:2]:
        player.say(*item)
    player.say(production.OptimisationDecided(transfer=CASE, run=run, proposal="p", accepted=False))
    assert player.stages() == ["adapt", "advise", "sign"]
    assert player.endings() == []


def test_the_outcome_of_another_lot_is_not_the_one_that_research_must_learn() -> None:
    player, run = opened()
    for item in whole(run)[:5]:
        player.say(*item)
    player.say(rnd.PredictionCalibrated(transfer=CASE, lot=f"{PRODUCT}/another"))
    assert player.endings() == []
    player.say(rnd.PredictionCalibrated(transfer=CASE, lot=f"{PRODUCT}/lot-1"))
    assert player.endings() == [(run, "CLOSED")]


def test_a_refused_transfer_says_why_and_nothing_follows() -> None:
    player, run = opened()
    reasons = [
        production.TransferRefusal(rule="OUTSIDE_PAR", field="feed.rate", statement="the feed is too fast"),
        production.TransferRefusal(rule="NO_LINE", field="line", statement="no line has a chiller"),
    ]
    player.say(production.TransferRefused(transfer=CASE, run=run, version=1, reasons=reasons))
    (ended,) = player.told(loops.LoopClosed)
    assert ended.outcome == loops.RUN_OUTCOME_REFUSED
    assert ended.reason == "the feed is too fast; no line has a chiller"
    for item in whole(run):
        assert player.say(*item) == []
    player.check("transfer")


@pytest.mark.parametrize("heard", range(6))
def test_a_withdrawn_version_ends_its_run_wherever_it_stands(heard: int) -> None:
    player, run = opened()
    for item in whole(run)[:heard]:
        player.say(*item)
    player.say(withdrawn(2), "set", 2)
    assert player.endings() == [], "another version's withdrawal is not this run's"
    player.say(withdrawn(1), "set", 3)
    (ended,) = player.told(loops.LoopClosed)
    assert (ended.outcome, ended.reason, ended.actor, ended.meaning) == (
        loops.RUN_OUTCOME_WITHDRAWN,
        "a wrong unit",
        "head-of-research",
        "I take it back",
    )
    assert player.stages() == STAGES[:heard]


def test_a_version_that_is_known_to_be_withdrawn_ends_as_it_opens() -> None:
    player = Player(CASE)
    assert player.say(withdrawn(1), "withdrawal", 1) == []
    player.say(released(1), "set", 1)
    (run,) = player.told(loops.TransferRunOpened)
    assert player.endings() == [(run.run, "WITHDRAWN")]
    player.check("transfer")


@pytest.mark.parametrize("heard", range(6))
def test_a_later_version_takes_the_place_of_an_open_run(heard: int) -> None:
    player, first = opened()
    for item in whole(first)[:heard]:
        player.say(*item)
    player.say(released(2), "set", 2)
    second = player.told(loops.TransferRunOpened)[1]
    (ended,) = player.told(loops.LoopClosed)
    assert (ended.run, ended.outcome, ended.superseded_by) == (
        first,
        loops.RUN_OUTCOME_SUPERSEDED,
        second.run,
    )
    assert (second.version, second.run != first) == (2, True)
    for message, source, _ in whole(first)[heard:]:
        player.say(message, source, 1)  # what is still said of the first does not move the second
    assert player.stages(second.run) == []
    for message, source, _ in whole(second.run, 2):
        player.say(message, source, 2)
    assert player.endings() == [(first, "SUPERSEDED"), (second.run, "CLOSED")]
    player.check("transfer")


def test_a_later_version_after_the_end_is_a_run_beside_it() -> None:
    player, first = opened()
    for item in whole(first):
        player.say(*item)
    player.say(released(3), "set", 3)
    assert [run.version for run in player.told(loops.TransferRunOpened)] == [1, 3]
    assert player.endings() == [(first, "CLOSED")]


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_that_is_not_newer_opens_nothing(version: int) -> None:
    player, _ = opened(2)
    assert player.say(released(version), "set-again", 1) == []


@pytest.mark.parametrize(("by", "outcome"), [("", "CANCELLED"), ("other", "SUPERSEDED")])
def test_a_person_ends_a_run(by: str, outcome: str) -> None:
    player, run = opened()
    asked = loops.RunCancelRequested(run=run, case=CASE, reason="a mistake", actor="qa", superseded_by=by)
    player.say(asked)
    (ended,) = player.told(loops.LoopClosed)
    assert (ended.reason, ended.actor, ended.superseded_by) == ("a mistake", "qa", by)
    assert player.endings() == [(run, outcome)]


def test_what_is_said_of_a_run_that_nobody_opened_does_nothing() -> None:
    player, _ = opened()
    assert [player.say(*item) for item in whole("another run")[:5]] == [[]] * 5


class Transfers(RuleBasedStateMachine):
    """Any history of one case, against what a person would write down about it."""

    @initialize()
    def begin(self) -> None:
        self.player = Player(CASE)
        self.version = 0
        self.run = ""
        self.heard: set[int] = set()
        self.expected: list[tuple[str, str]] = []
        self.n = 0

    def say(self, message: Message) -> None:
        self.n += 1
        self.player.say(message, f"source-{self.n}", 1)

    def end(self, outcome: str) -> None:
        if self.run:
            self.expected.append((self.run, outcome))
        self.run, self.heard = "", set()

    @rule(version=st.integers(1, 4))
    def release(self, version: int) -> None:
        self.say(released(version))
        if version > self.version:
            self.end("SUPERSEDED")
            self.version, self.run = version, self.player.told(loops.TransferRunOpened)[-1].run
            assert self.player.told(loops.TransferRunOpened)[-1].version == version

    @precondition(lambda self: self.run)
    @rule(which=st.integers(0, 5))
    def hear(self, which: int) -> None:
        self.say(whole(self.run, self.version)[which][0])
        self.heard.add(which)
        if len(self.heard) == 6:
            self.end("CLOSED")

    @precondition(lambda self: self.run)
    @rule()
    def refuse(self) -> None:
        self.say(production.TransferRefused(transfer=CASE, run=self.run))
        self.end("REFUSED")

    @precondition(lambda self: self.run)
    @rule()
    def withdraw(self) -> None:
        self.say(withdrawn(self.version))
        self.end("WITHDRAWN")

    @precondition(lambda self: self.run)
    @rule()
    def cancel(self) -> None:
        self.say(loops.RunCancelRequested(run=self.run, case=CASE))
        self.end("CANCELLED")

    @precondition(lambda self: self.player.fed)
    @rule(chance=st.randoms(use_true_random=False))
    def repeat(self, chance: random.Random) -> None:
        held = self.player.driver.cases[CASE]
        self.player.driver.take(chance.choice(self.player.fed))
        assert self.player.driver.cases[CASE] == held

    @invariant()
    def is_as_expected(self) -> None:
        assert self.player.endings() == self.expected
        stages = self.player.stages(self.run) if self.run else []
        assert set(range(len(stages))) <= self.heard
        assert len(stages) not in self.heard or not self.run
        self.player.check("transfer")


TestTransfers = Transfers.TestCase
