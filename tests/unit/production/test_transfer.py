"""A parameter set on its way to a plant: what the twin finds, what people decide, what is refused."""

from __future__ import annotations

from pharmaloop.production.v1 import events_pb2 as events
from tests.unit.production.transfer_story import PRODUCT, TRANSFER, Story


def test_a_release_is_adapted_by_the_real_twin_when_its_run_is_opened() -> None:
    story = Story()
    story.register()
    story.give(story.released())
    story.run_steps()
    assert not story.out(events.TwinAdapted), "the trigger alone moves nothing"
    story.give(story.opened())
    story.run_steps()
    assert not story.out(events.TransferRefused), story.out(events.TransferRefused)
    (adapted,) = story.out(events.TwinAdapted)
    assert (adapted.transfer, adapted.run, adapted.product) == (TRANSFER, "run-1", PRODUCT)
    assert {gap.quantity for gap in adapted.gaps} >= {"kla", "power_per_volume", "tip_speed", "volume"}
    assert [one.attribute for one in adapted.predictions] == ["titre", "impurity"]
