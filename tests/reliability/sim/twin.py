"""The plant's twin in a simulated world: it answers at once, from what the set says of itself.

Everything around it is the product's own: steps, sealing, what is decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production import steps
from services.production.twins import Adapted, Place, Refusals
from tests.unit.production.transfer_story import FakeTwin

#: What a set's statement begins with that fits no line.
UNFIT = "No line fits."
_Twin = steps.Twin


def adapt(content: sets.ParameterSetContent, place: Place, seed: int) -> Adapted | Refusals:
    """What the twin says of a set: it fits, or a reason that people can read."""
    if content.statement.startswith(UNFIT):
        said = "the vessel cannot stir so fast; release another set-point"
        return Refusals((events.TransferRefusal(rule="STIRRER", field="agitation", statement=said),))
    return FakeTwin().adapt(content, place, seed)


def twin(*_: Any) -> steps.Twin:
    """What the steps ask of the twin."""
    return _Twin(adapt, FakeTwin().advise)


async def at_once(_: Any, function: Callable[..., Any], *args: Any) -> Any:
    """What a child process would answer: here, in the world's own time."""
    return function(*args)
