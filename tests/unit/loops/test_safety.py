"""The safety machine alone: its rules, and that order and repeats do not matter."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.envelope import Event
from services.kit.runners.loop import MemoryLoop
from services.loops.machine import CASES

LOT, CHILD, A, B = "m/item/G/1", "m/gtin/1/7", "hospital-a", "hospital-b"
START = datetime(2026, 3, 1, tzinfo=UTC)
DIGESTS = {A: b"a" * 32, B: b"b" * 32}


class Player:
    """Feeds one case and keeps what comes out."""

    def __init__(self) -> None:
        self.driver = MemoryLoop(CASES)
        self.out: list[Event] = []
        self.run = ""
        self._n = 0
        self.fed: list[Event] = []

    def event(self, message: Message, source: str, seq: int, run: str = "") -> Event:
        self._n += 1
        wall = START + timedelta(seconds=self._n)
        return Event(
            id=f"e-{source}-{seq}",
            source=f"/svc/{source}",
            subject=source,
            time=wall,
            message=message,
            seq=seq,
            case=LOT,
            run=run or self.run,
            created=wall,
        )

    def feed(self, event: Event) -> list[Event]:
        self.fed.append(event)
        out = self.driver.take(event)
        self.out += out
        return out

    def open(self) -> None:
        confirmed = production.DeviationConfirmed(lot=LOT, deviation="d", product="m/item/G", tag="T")
        opened = self.feed(self.event(confirmed, "lot", 1))
        self.run = opened[0].run

    def names(self) -> list[str]:
        return [event.type.rsplit(".", 1)[1] for event in self.out]

    def stages(self) -> list[str]:
        return [e.message.stage for e in self.out if isinstance(e.message, loops.StageCompleted)]


def announced(version: int, epochs: dict[str, int], lots: tuple[str, ...] = (LOT, CHILD)) -> Message:
    message = traceability.ExposureAnnounced(run="", version=version, root=LOT, lots=lots)
    for site, epoch in epochs.items():
        message.sites[site].CopyFrom(traceability.SiteExposure(epoch=epoch, n=1, digest=DIGESTS[site]))
    return message


def received(
    site: str, epoch: int, digest: bytes = b"", only_in_trace: int = 0, only_at_site: int = 0
) -> clinical.ExposureReceived:
    return clinical.ExposureReceived(
        site=site,
        epoch=epoch,
        n=1,
        digest=digest or DIGESTS[site],
        patients=1,
        only_in_trace=only_in_trace,
        only_at_site=only_at_site,
    )


def plans(site: str, **members: int) -> clinical.PlansOpened:
    """What a site with one patient, of one member, says became of them."""
    message = clinical.PlansOpened(site=site, patients=1, members=clinical.MemberDispositions(**members))
    message.plans, message.without_consent = members.get("planned", 0), members.get("declined", 0)
    message.without_need = sum(members.get(name, 0) for name in ("void", "deceased", "moved"))
    return message


def whole_run(player: Player) -> list[tuple[Message, str, int]]:
    """Everything the other services say in a plain run: (message, source, seq)."""
    return [
        (announced(1, {A: 1, B: 1}), "exposure", 1),
        (received(A, 1), "clin-a", 1),
        (received(B, 1), "clin-b", 1),
        (production.LotImplicationAnswered(lot=LOT), "lot", 2),
        (production.LotImplicationAnswered(lot=CHILD), "child", 1),
        (plans(A, planned=1), "plan-a", 1),
        (plans(B, declined=1), "plan-b", 1),
        (traceability.ExposureSealed(version=1, members=2), "exposure", 2),
        (production.HazardEvaluated(text="so"), "hazard", 1),
        (clinical.NoticesSummarised(site=A, patients=1, notified=1), "told-a", 1),
        (clinical.NoticesSummarised(site=B, patients=1, unreachable=1), "told-b", 1),
        (clinical.FollowUpSummarised(site=A, plans=1, answered=1, complete=True), "clin-a", 2),
        (clinical.FollowUpSummarised(site=B, complete=True), "clin-b", 2),
        (production.CapaProposed(capa="c"), "capa", 1),
        (production.ProcessLimitChanged(capa="c"), "capa", 2),
        (rnd.InsightRecorded(insight="i"), "insight", 1),
    ]


def refused_run(player: Player) -> list[tuple[Message, str, int]]:
    """The same, of a run whose corrective action a person refuses."""
    refused = production.CapaRefused(capa="c", actor="head", reason="one site alone", meaning="I refuse")
    return [*whole_run(player)[:14], (refused, "capa", 2)]


def final(player: Player) -> loops.LoopClosed:
    closed = [e.message for e in player.out if isinstance(e.message, loops.LoopClosed)]
    assert len({message.SerializeToString() for message in closed}) == 1
    return closed[0]


def play(player: Player, items: list[tuple[Message, str, int]], chance: random.Random) -> None:
    """Feed them in any order across sources, and some again."""
    queues: dict[str, list[tuple[Message, str, int]]] = {}
    for item in items:
        queues.setdefault(item[1], []).append(item)
    while queues:
        source = chance.choice(sorted(queues))
        item = queues[source].pop(0)
        if not queues[source]:
            del queues[source]
        player.feed(player.event(*item))
        if chance.random() < 0.3:
            before = player.driver.cases[LOT].state
            again = chance.choice(player.fed)
            player.driver.take(again)
            assert player.driver.cases[LOT].state == before


@given(st.randoms(use_true_random=False))
def test_any_order_across_sources_and_any_repeat_closes_the_run_alike(chance: random.Random) -> None:
    player = Player()
    player.open()
    play(player, whole_run(player), chance)
    closed = final(player)
    assert (closed.members, closed.patients, closed.plans, closed.answered) == (2, 2, 1, 1)
    assert player.stages() == [
        "trace",
        "receive",
        "hold",
        "plan",
        "seal",
        "evaluate",
        "notify",
        "respond",
        "propose",
        "approve",
        "learn",
    ]


@given(st.randoms(use_true_random=False))
def test_a_refused_action_ends_the_run_in_any_order_once_all_else_is_known(chance: random.Random) -> None:
    player = Player()
    player.open()
    play(player, refused_run(player), chance)
    closed = final(player)
    assert closed.outcome == loops.RUN_OUTCOME_REFUSED
    assert (closed.actor, closed.reason, closed.meaning) == ("head", "one site alone", "I refuse")
    assert (closed.capa, closed.insight) == ("c", "")
    assert (closed.members, closed.patients, closed.plans, closed.answered) == (2, 2, 1, 1)
    assert player.stages()[-1] == "propose", "neither approved nor learnt from"


def test_a_refusal_that_overtakes_a_site_waits_for_what_it_says() -> None:
    player = Player()
    player.open()
    *before, late, proposed, refused = refused_run(player)
    for item in (*before, proposed, refused):
        player.feed(player.event(*item))
    assert "LoopClosed" not in player.names()
    player.feed(player.event(*late))
    assert final(player).outcome == loops.RUN_OUTCOME_REFUSED


def test_nothing_follows_a_refused_run_but_its_successors() -> None:
    player = Player()
    player.open()
    for item in refused_run(player):
        player.feed(player.event(*item))
    before = len(player.out)
    player.feed(player.event(loops.DeadlinePassed(run=player.run, case=LOT, stage="approve"), "deadline", 1))
    cancel(player)
    assert len(player.out) == before
    late = traceability.ExposureAfterSeal(run=player.run, successor="run-2", root=LOT)
    opened = player.feed(player.event(late, "exposure", 3))
    assert isinstance(opened[0].message, loops.SafetyRunOpened)
    assert opened[0].message.follows == player.run


@given(st.integers(0, 15))
def test_a_repeated_event_sends_its_effects_again_with_the_same_ids(which: int) -> None:
    player = Player()
    player.open()
    events = [player.event(*item) for item in whole_run(player)]
    for event in events[: which + 1]:
        out = player.feed(event)
    again = player.driver.take(events[which])
    assert [(e.id, e.seq, e.message) for e in again] == [(e.id, e.seq, e.message) for e in out]
    held = player.driver.cases[LOT]
    assert [player.driver.take(event) for event in events[:which]] == [[]] * which, "confirmed before"
    assert player.driver.cases[LOT] == held


def test_effects_of_a_run_are_numbered_without_a_gap() -> None:
    player = Player()
    player.open()
    for item in whole_run(player):
        player.feed(player.event(*item))
    assert [event.seq for event in player.out] == list(range(1, len(player.out) + 1))


def test_stages_follow_one_another_without_a_gap() -> None:
    player = Player()
    player.open()
    for item in whole_run(player):
        player.feed(player.event(*item))
    stages = [e.message for e in player.out if isinstance(e.message, loops.StageCompleted)]
    assert all(a.ended == b.began for a, b in pairwise(stages))


def _ready_to_seal(player: Player) -> None:
    for item in whole_run(player)[:7]:
        player.feed(player.event(*item))


def test_the_seal_is_asked_once_for_a_version() -> None:
    player = Player()
    player.open()
    _ready_to_seal(player)
    asked = [e.message.version for e in player.out if isinstance(e.message, loops.SealRequested)]
    assert asked == [1]


@pytest.mark.parametrize(
    "breaks",
    [
        received(A, 1, digest=b"x" * 32),
        received(A, 0),
        received(A, 1, only_in_trace=1),
        received(A, 1, only_at_site=1),
    ],
    ids=["other digest", "old epoch", "trace knows more", "site knows more"],
)
def test_no_seal_while_a_site_differs(breaks: clinical.ExposureReceived) -> None:
    player = Player()
    player.open()
    items = whole_run(player)
    items[1] = (breaks, "clin-a", 1)
    for item in items[:7]:
        player.feed(player.event(*item))
    assert "SealRequested" not in player.names()
    player.feed(player.event(received(A, 1), "clin-a", 2))
    assert "SealRequested" in player.names()


def test_a_successor_seals_though_the_site_has_what_an_earlier_journal_took() -> None:
    player = Player()
    player.open()
    late = traceability.ExposureAfterSeal(run=player.run, successor="run-2", root=LOT)
    player.feed(player.event(late, "exposure", 1))
    player.run = "run-2"
    player.feed(player.event(announced(1, {A: 1}), "second", 1))
    player.feed(player.event(production.LotImplicationAnswered(lot=LOT), "lot", 2))
    player.feed(player.event(production.LotImplicationAnswered(lot=CHILD), "child", 1))
    player.feed(player.event(plans(A, planned=1), "plan-a", 1))
    player.feed(player.event(received(A, 1, only_at_site=7), "clin-a", 1))
    assert [e.run for e in player.out if isinstance(e.message, loops.SealRequested)] == ["run-2"]


def test_no_seal_while_a_site_that_was_announced_has_not_answered() -> None:
    player = Player()
    player.open()
    items = whole_run(player)
    for item in items[:2] + items[3:7]:
        player.feed(player.event(*item))
    assert "SealRequested" not in player.names()


def test_no_seal_while_a_dispense_is_unattributed_or_a_lot_undecided() -> None:
    player = Player()
    player.open()
    items = whole_run(player)
    first = announced(1, {A: 1, B: 1})
    assert isinstance(first, traceability.ExposureAnnounced)
    first.unattributed = 1
    for item in [(first, "exposure", 1), *items[1:4], *items[5:7]]:
        player.feed(player.event(*item))
    player.feed(player.event(announced(2, {A: 1, B: 1}), "exposure", 2))
    assert "SealRequested" not in player.names()
    player.feed(player.event(*items[4]))
    assert "SealRequested" in player.names()


@pytest.mark.parametrize(
    "told", [plans(A, pending=1), plans(A), clinical.PlansOpened(site=A)], ids=["pending", "nothing", "none"]
)
def test_no_seal_before_it_is_known_what_became_of_every_member(told: clinical.PlansOpened) -> None:
    player = Player()
    player.open()
    items = whole_run(player)
    for item in [*items[:5], (told, "plan-a", 1), items[6]]:
        player.feed(player.event(*item))
    assert "SealRequested" not in player.names()
    player.feed(player.event(plans(A, void=1), "plan-a", 2))
    assert "SealRequested" in player.names()


def cancel(player: Player, by: str = "", reason: str = "a mistake") -> list[Event]:
    asked = loops.RunCancelRequested(
        run=player.run,
        case=LOT,
        reason=reason,
        actor="head-of-quality",
        superseded_by=by,
        meaning="I end it",
    )
    return player.feed(player.event(asked, "cancel", 1))


@pytest.mark.parametrize(("by", "outcome"), [("", "CANCELLED"), ("other", "SUPERSEDED")])
def test_a_person_ends_a_run_and_nothing_follows(by: str, outcome: str) -> None:
    player = Player()
    player.open()
    (ended,) = cancel(player, by)
    assert isinstance(ended.message, loops.LoopClosed)
    assert loops.RunOutcome.Name(ended.message.outcome) == f"RUN_OUTCOME_{outcome}"
    assert (ended.message.reason, ended.message.actor, ended.message.superseded_by) == (
        "a mistake",
        "head-of-quality",
        by,
    )
    assert ended.message.meaning == "I end it"
    before = len(player.out)
    _ready_to_seal(player)
    player.feed(player.event(loops.DeadlinePassed(run=player.run, case=LOT, stage="trace"), "deadline", 1))
    assert len(player.out) == before


def test_a_sealed_run_is_not_cancelled() -> None:
    player = Player()
    player.open()
    player.feed(player.event(traceability.ExposureSealed(version=1), "exposure", 1))
    assert cancel(player) == []


def test_a_deviation_that_joined_a_cancelled_run_gets_its_own() -> None:
    player = Player()
    player.open()
    for number in (2, 3):
        joins = production.DeviationConfirmed(lot=LOT, deviation=f"d{number}", tag=f"T{number}")
        player.feed(player.event(joins, "lot", number))
    out = cancel(player)
    opened = [e.message for e in out if isinstance(e.message, loops.SafetyRunOpened)]
    assert [(o.deviation, o.tag, o.follows) for o in opened] == [("d2", "T2", "")]
    assert opened[0].run != player.run
    player.run = opened[0].run
    again = [e.message for e in cancel_second(player) if isinstance(e.message, loops.SafetyRunOpened)]
    assert [o.deviation for o in again] == ["d3"]


def cancel_second(player: Player) -> list[Event]:
    asked = loops.RunCancelRequested(run=player.run, case=LOT, reason="a mistake too")
    return player.feed(player.event(asked, "cancel-2", 1))


def test_a_superseded_run_takes_its_deviations_along() -> None:
    player = Player()
    player.open()
    player.feed(player.event(production.DeviationConfirmed(lot=LOT, deviation="d2"), "lot", 2))
    out = cancel(player, by="other")
    assert [type(e.message).__name__ for e in out] == ["LoopClosed"]


def test_growth_while_sealing_is_asked_again_with_the_new_version() -> None:
    player = Player()
    player.open()
    _ready_to_seal(player)
    player.feed(player.event(announced(2, {A: 2, B: 1}), "exposure", 2))
    player.feed(player.event(traceability.ExposureExtended(asked=1, version=2), "exposure", 3))
    player.feed(player.event(received(A, 2), "clin-a", 2))
    asked = [e.message.version for e in player.out if isinstance(e.message, loops.SealRequested)]
    assert asked == [1, 2]


def test_a_second_trigger_joins_the_open_run_and_opens_another_after_the_seal() -> None:
    player = Player()
    player.open()
    player.feed(player.event(production.DeviationConfirmed(lot=LOT, deviation="d2"), "lot", 2))
    assert player.names().count("SafetyRunOpened") == 1
    player.feed(player.event(traceability.ExposureSealed(version=1), "exposure", 1))
    player.feed(player.event(production.DeviationConfirmed(lot=LOT, deviation="d3"), "lot", 3))
    assert player.names().count("SafetyRunOpened") == 2


def test_what_comes_after_the_seal_opens_the_named_successor_once() -> None:
    player = Player()
    player.open()
    late = traceability.ExposureAfterSeal(run=player.run, successor="run-2", root=LOT)
    player.feed(player.event(late, "exposure", 1))
    player.feed(player.event(late, "exposure", 2))
    opened = [e.message for e in player.out if isinstance(e.message, loops.SafetyRunOpened)]
    assert [(o.run, o.follows) for o in opened[1:]] == [("run-2", player.run)]


def test_a_passed_deadline_of_the_stage_that_waits_names_what_is_missing() -> None:
    player = Player()
    player.open()
    player.feed(player.event(loops.DeadlinePassed(run=player.run, case=LOT, stage="trace"), "deadline", 1))
    stalled = [e.message for e in player.out if isinstance(e.message, loops.LoopStalled)]
    assert [(s.stage, "announcement" in s.waiting_for) for s in stalled] == [("trace", True)]


def test_a_deadline_of_a_stage_that_is_over_says_nothing() -> None:
    player = Player()
    player.open()
    player.feed(player.event(announced(1, {A: 1}), "exposure", 1))
    player.feed(player.event(loops.DeadlinePassed(run=player.run, case=LOT, stage="trace"), "deadline", 1))
    assert "LoopStalled" not in player.names()


def test_what_was_said_long_ago_does_not_end_a_stage_before_it_begins() -> None:
    player = Player()
    player.open()
    *before, answers = whole_run(player)[:13]
    for message, source, seq in before:
        player.feed(player.event(message, source, seq))
    told = player.event(*answers)
    player.feed(told._replace(time=START - timedelta(days=300)))
    due = [e.message.due.ToDatetime(UTC) for e in player.out if isinstance(e.message, loops.DeadlineSet)]
    assert player.stages()[-1] == "respond"
    assert due[-1] == max(event.time for event in player.fed) + timedelta(hours=16)


@pytest.mark.parametrize(("hours", "limit"), [(0, 24), (8, 24), (23, 24), (72, 73), (240, 241)])
def test_a_run_is_not_called_stalled_while_a_hospital_still_follows_its_patients_up(
    hours: int, limit: int
) -> None:
    player = Player()
    player.open()
    # A site says how long it follows up as soon as its plans are open.
    asked = clinical.FollowUpSummarised(site=A, plans=1, follow_up_hours=hours)
    said = whole_run(player)
    for item in [*said[:8], (asked, "clin-a", 2), *said[8:11]]:
        player.feed(player.event(*item))
    due = [e.message for e in player.out if isinstance(e.message, loops.DeadlineSet)][-1]
    assert due.stage == "respond"
    assert due.due.ToDatetime(START.tzinfo) - player.fed[-1].time == timedelta(hours=limit)


@pytest.mark.parametrize(("hours", "limit"), [(8, 16), (15, 16), (72, 73), (240, 241)])
def test_a_run_is_not_called_stalled_while_comparators_are_followed_up(hours: int, limit: int) -> None:
    player = Player()
    player.open()
    answered = clinical.FollowUpSummarised(site=A, plans=1, answered=1, complete=True, follow_up_hours=hours)
    said = whole_run(player)
    for item in [*said[:11], (answered, "clin-a", 2), said[12]]:
        player.feed(player.event(*item))
    due = [e.message for e in player.out if isinstance(e.message, loops.DeadlineSet)][-1]
    assert due.stage == "propose"
    assert due.due.ToDatetime(START.tzinfo) - player.fed[-1].time == timedelta(hours=limit)


def test_a_run_waits_for_the_evaluation_and_then_for_everybody_to_be_told() -> None:
    player = Player()
    player.open()
    for item in whole_run(player)[:8]:
        player.feed(player.event(*item))
    assert player.stages()[-1] == "seal"
    player.feed(player.event(production.HazardEvaluated(text="so"), "hazard", 1))
    assert player.stages()[-1] == "evaluate"
    player.feed(player.event(clinical.NoticesSummarised(site=A, patients=2, notified=1), "told-a", 1))
    player.feed(player.event(clinical.NoticesSummarised(site=B), "told-b", 1))
    assert player.stages()[-1] == "evaluate"
    both = clinical.NoticesSummarised(site=A, patients=2, notified=1, unreachable=1)
    player.feed(player.event(both, "told-a", 2))
    assert player.stages()[-1] == "notify"
