"""The analyst who asks the hospitals together, and the owners of their data who let it take part.

One question at a time, each with its purpose and its ethics approval. Some are
asked as they must not be: the platform says by which rule.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.kit.ids import derived_id
from services.world.actors.desk import Desk
from services.world.ids import stamp
from services.world.platform_api import Refused
from services.world.timing import LOOK_SECONDS
from services.world.treatment import BLEEDING, CARRIER, DAYS, INR, INR_UNIT, TAG, UNIT, WARM

THINKING = timedelta(minutes=30)
BAND, GENOTYPE = "warm-band", "genotype"
_AGES = (18, 65)
_OVER = (
    api.STUDY_STATE_ANSWERED,
    api.STUDY_STATE_REFUSED,
    api.STUDY_STATE_STOPPED,
    api.STUDY_STATE_EXPIRED,
    api.STUDY_STATE_FAILED,
)
Spoil = Callable[[api.RequestStudyRequest], None]


@dataclass(frozen=True)
class Asked:
    """A question: its name in the world, and the request."""

    name: str
    request: api.RequestStudyRequest


def study_id(seed: int, name: str) -> str:
    """The id of the world's study of this name."""
    return derived_id("world-study", str(seed), name)
