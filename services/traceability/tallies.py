"""Exposures of which nobody knows the patient: counted from the heads of the journals that are open."""

from __future__ import annotations

from services.kit.clock import Clock
from services.kit.metrics import UNATTRIBUTED, Metrics
from services.kit.store.protocol import AsyncStore
from services.traceability.views import EXPOSURES, RUNS


async def tally(store: AsyncStore, _clock: Clock, metrics: Metrics) -> None:
    """Sum the unattributed dispenses of the runs that are neither sealed nor cancelled."""
    unsealed = await store.where(RUNS, "sealed", False)
    runs = [found.id for found in unsealed if not found.state.over]
    heads = await store.among(EXPOSURES, "_id", runs) if runs else []
    metrics.set(UNATTRIBUTED, sum(head.state.unattributed for head in heads))
