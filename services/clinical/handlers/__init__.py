"""What a site does with events and commands, on one page.

One reactor takes them all: an exposure, a record of the hospital and a
patient's answer change the same numbers, and one runner needs no rule for
which of two comes first.
"""

from __future__ import annotations

from functools import partial

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.handlers import commands as do
from services.clinical.handlers import exposures, records
from services.clinical.handlers.here import Here
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events


def events(here: Here) -> Events:
    """The event handlers of one site."""
    return {
        traceability.ExposureOpened: partial(exposures.on_exposure_opened, here),
        traceability.ExposureEntered: partial(exposures.on_exposure_entered, here),
        traceability.ExposureEntriesJoined: partial(exposures.on_entries_joined, here),
        traceability.ExposureAnnounced: partial(exposures.on_exposure_announced, here),
        production.HazardEvaluated: partial(exposures.on_hazard_evaluated, here),
        loops.LoopClosed: partial(exposures.on_loop_closed, here),
        clinical.SubjectRecorded: partial(records.on_subject_recorded, here),
        clinical.MedicationRecorded: partial(records.on_medication_recorded, here),
        clinical.MedicationCorrected: partial(records.on_medication_corrected, here),
        clinical.DifferenceExplained: partial(records.on_difference_explained, here),
        clinical.NoticeRecorded: partial(records.on_notice_recorded, here),
        clinical.ResponseRecorded: partial(records.on_response_recorded, here),
    }


def commands(here: Here) -> dict[str, Command]:
    """The commands of one site; only the last is offered by gRPC."""
    return {
        "RegisterSite": do.register_site,
        "EndFollowUp": partial(do.end_follow_up, here),
        "ExplainDifference": partial(do.explain_difference, here),
    }


__all__ = ["Here", "commands", "events"]
