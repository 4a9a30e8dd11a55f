"""What traceability does with events and commands, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events
from services.traceability import explanations, fold, protocol
from services.traceability.outside import Outside

#: What can carry genealogy or dispenses, or the site that a dispense belongs to: a cut notes
#: the ends of their topics.
CUT_EVENTS = (
    events.MaterialRecorded,
    events.DispenseRecorded,
    events.ReturnRecorded,
    events.DispenseCorrected,
    production.LotStarted,
    clinical.SiteRegistered,
)


def fold_events(outside: Outside) -> Events:
    """Everything that is folded, by one runner: its watermarks are what a cut waits for."""
    return {
        events.MaterialRecorded: partial(fold.on_material_recorded, outside),
        events.ShipmentRecorded: fold.on_shipment_recorded,
        events.DispenseRecorded: partial(fold.on_dispense_recorded, outside),
        events.ReturnRecorded: partial(fold.on_return_recorded, outside),
        events.DispenseCorrected: partial(fold.on_dispense_corrected, outside),
        production.LotStarted: fold.on_lot_started,
        clinical.SiteRegistered: partial(fold.on_site_registered, outside),
        loops.SafetyRunOpened: partial(fold.on_safety_run_opened, outside),
        loops.SealRequested: partial(fold.on_seal_requested, outside),
        loops.LoopClosed: fold.on_loop_closed,
    }


def commands(outside: Outside) -> Mapping[str, Command]:
    """The first four are submitted by the step `cut` alone, the last by a person."""
    return {
        "NoteCut": protocol.note_cut,
        "Walk": partial(protocol.walk, outside),
        "GoOver": protocol.go_over,
        "Seal": partial(protocol.seal, outside),
        "ExplainUnattributed": partial(explanations.explain, outside),
    }
