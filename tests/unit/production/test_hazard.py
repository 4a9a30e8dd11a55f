"""The health hazard of a run: evaluated once, under signature, and taken over by the runs that follow."""

from __future__ import annotations

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.runners.reactor import Reactor
from services.production.handlers import QUALITY
from tests.unit.production.memory import Memory, minutes, said

LOT = "maker-1/item/granulate/G-1"
REACT = Reactor("quality", QUALITY)


def request(run: str = "r", **changes: object) -> api.EvaluateHazardRequest:
    given = {
        "hazard_class": events.HAZARD_CLASS_II,
        "text": "It may make you dizzy.",
        "instruction": "Bring it back.",
        "meaning": "I have read the deviation.",
        **changes,
    }
    return api.EvaluateHazardRequest(run=run, **given)  # type: ignore[arg-type]


def opened(memory: Memory, run: str, follows: str = "", seq: int = 1) -> None:
    message = loops.SafetyRunOpened(run=run, case=LOT, lot=LOT, deviation="d", follows=follows)
    memory.give(REACT, [said(message, minutes(seq), seq=seq, case=LOT, run=run, subject=run)])


def evaluated(memory: Memory) -> dict[str, tuple[str, str, str, str]]:
    """By run: the lot, the class, the signer, and the case that the event carries."""
    return {
        event.run: (
            event.message.lot,
            events.HazardClass.Name(event.message.hazard_class),
            event.message.actor,
            event.case,
        )
        for event in memory.out(events.HazardEvaluated)
        if isinstance(event.message, events.HazardEvaluated)
    }


MINE = (LOT, "HAZARD_CLASS_II", "physician", LOT)


def test_a_signed_evaluation_goes_out_for_its_run() -> None:
    memory = Memory()
    opened(memory, "r")
    memory.ask("EvaluateHazard", request(), actor="physician")
    assert evaluated(memory) == {"r": MINE}


def test_it_is_given_once() -> None:
    memory = Memory()
    opened(memory, "r")
    memory.ask("EvaluateHazard", request(), actor="physician")
    with pytest.raises(Rejected, match="physician") as refused:
        memory.ask("EvaluateHazard", request(hazard_class=events.HAZARD_CLASS_I), actor="another")
    assert refused.value.reason == "ALREADY_EVALUATED"


@pytest.mark.parametrize("follower_first", [False, True])
def test_a_run_that_follows_takes_it_over_whenever_it_opens(follower_first: bool) -> None:
    memory = Memory()
    opened(memory, "r")
    if follower_first:
        opened(memory, "s", follows="r")
        opened(memory, "t", follows="s")
    memory.ask("EvaluateHazard", request(), actor="physician")
    if not follower_first:
        opened(memory, "s", follows="r")
        opened(memory, "t", follows="s")
    assert evaluated(memory) == {"r": MINE, "s": MINE, "t": MINE}
    with pytest.raises(Rejected):
        memory.ask("EvaluateHazard", request("s"))


def test_a_run_that_opens_at_the_same_moment_takes_it_over() -> None:
    memory = Memory()
    opened(memory, "r")
    memory.store.interrupt = lambda: opened(memory, "s", follows="r")
    memory.ask("EvaluateHazard", request(), actor="physician")
    assert evaluated(memory) == {"r": MINE, "s": MINE}


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"run": "unknown"}, Unknown, "run"),
        ({"hazard_class": 0}, Invalid, "hazard_class"),
        ({"text": " "}, Invalid, "text"),
        ({"instruction": ""}, Invalid, "instruction"),
        ({"meaning": ""}, Invalid, "meaning"),
        ({"text": "x" * 4001}, Invalid, "text"),
    ],
)
def test_what_is_no_evaluation_is_refused_with_its_field(
    changes: dict[str, object], error: type[Rejected], field: str
) -> None:
    memory = Memory()
    opened(memory, "r")
    with pytest.raises(error) as refused:
        memory.ask("EvaluateHazard", request(**changes))  # type: ignore[arg-type]
    assert refused.value.field == field
    assert evaluated(memory) == {}
