"""What plants tell of their lots' runs."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as production
from services.clinical.domain import profiles
from services.clinical.views import PROFILES
from services.kit.envelope import Event
from services.kit.work import Work


def on_lot_profiled(work: Work, event: Event) -> None:
    """The parameters of a lot; a plant tells them anew when it has more of the run."""
    told = cast(production.LotProfiled, event.message)
    work.put(PROFILES, told.lot, profiles.told(told))
