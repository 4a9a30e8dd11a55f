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
from services.clinical.handlers import (
    answers,
    asking,
    comparators,
    exposures,
    profiles,
    records,
    settle,
    telling,
)
from services.clinical.handlers import commands as do
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
        production.LotProfiled: profiles.on_lot_profiled,
        production.HazardEvaluated: partial(exposures.on_hazard_evaluated, here),
        loops.SafetyRunOpened: partial(exposures.on_run_opened, here),
        loops.LoopClosed: partial(exposures.on_loop_closed, here),
        clinical.SubjectRecorded: partial(records.on_subject_recorded, here),
        clinical.MedicationRecorded: partial(records.on_medication_recorded, here),
        clinical.MedicationCorrected: partial(records.on_medication_corrected, here),
        clinical.DifferenceExplained: partial(records.on_difference_explained, here),
        clinical.LabRecorded: partial(answers.on_lab_recorded, here),
        clinical.AdverseEventRecorded: partial(answers.on_adverse_event_recorded, here),
        clinical.NoticeRecorded: partial(records.on_notice_recorded, here),
        clinical.ResponseRecorded: partial(answers.on_response_recorded, here),
        clinical.ComparatorsChosen: partial(comparators.on_comparators_chosen, here),
    }


def commands(here: Here) -> dict[str, Command]:
    """The commands of one site; the last two are offered by gRPC."""
    return {
        "RegisterSite": do.register_site,
        "EndFollowUp": partial(do.end_follow_up, here),
        "Remind": partial(do.remind, here),
        "ChooseComparators": partial(comparators.choose_comparators, here),
        "ReviewEvidence": partial(comparators.review_evidence, here),
        "OpenAgain": partial(exposures.open_again, here),
        "TellAgain": partial(telling.tell_again, here),
        "SettleAgain": partial(settle.settle_again, here),
        "ExplainDifference": partial(do.explain_difference, here),
        "RegisterFollowUpTemplate": partial(asking.register_template, here),
    }


__all__ = ["Here", "commands", "events"]
