"""Words of the contract as people read them: one English word for each state, to be translated.

A state that has no word yet is shown as the contract names it, so that a newer service is no error.
"""

from __future__ import annotations

from typing import Any

from services.portal.sayings_learnt import LEARNT_WORDS
from services.portal.words_loops import LOOPS
from services.portal.words_plant import PLANT
from services.portal.words_science import SCIENCE


def N_(word: str) -> str:
    """Marks a sentence for translation where it is not yet said."""
    return word


#: What stands for a number that is not told: of a small group, or of a total that would tell of one.
WITHHELD = N_("withheld (protects a small group)")

#: By the contract's name of a value.
WORDS = {
    "RUN_STATE_OPEN": N_("Going on"),
    "RUN_STATE_STALLED": N_("Stalled"),
    "RUN_STATE_CLOSED": N_("Ended"),
    "RUN_OUTCOME_CLOSED": N_("Closed"),
    "RUN_OUTCOME_CANCELLED": N_("Cancelled"),
    "RUN_OUTCOME_SUPERSEDED": N_("Superseded"),
    "RUN_OUTCOME_REFUSED": N_("Refused"),
    "RUN_OUTCOME_WITHDRAWN": N_("Withdrawn"),
    "LOT_STATE_STARTED": N_("In process"),
    "LOT_STATE_COMPLETED": N_("Awaiting decision"),
    "LOT_STATE_HELD": N_("Held"),
    "LOT_STATE_RELEASED": N_("Released"),
    "LOT_STATE_REJECTED": N_("Rejected"),
    "DEVIATION_STATE_OPEN": N_("Open"),
    "DEVIATION_STATE_CONFIRMED": N_("Confirmed"),
    "DEVIATION_STATE_REJECTED": N_("False alarm"),
    "DEVIATION_STATE_UNDER_INVESTIGATION": N_("Under investigation"),
    "DEVIATION_STATE_CAPA_REQUIRED": N_("CAPA required"),
    "DEVIATION_STATE_CLOSED": N_("Closed"),
    "CAPA_STATE_PROPOSED": N_("Proposed"),
    "CAPA_STATE_APPROVED": N_("Approved"),
    "CAPA_STATE_EFFECTIVE": N_("Effective"),
    "CAPA_STATE_CLOSED": N_("Closed"),
    "CAPA_STATE_REFUSED": N_("Refused"),
    "TRANSFER_STATE_ADAPTED": N_("Adapted"),
    "TRANSFER_STATE_REFUSED": N_("Refused"),
    "TRANSFER_STATE_PROPOSED": N_("Awaiting decision"),
    "TRANSFER_STATE_IN_CHANGE_CONTROL": N_("In change control"),
    "TRANSFER_STATE_EFFECTIVE": N_("Effective"),
    "TRANSFER_STATE_CONCLUDED": N_("Concluded"),
    "TRANSFER_STATE_ENDED": N_("Ended"),
    "ALERT_KIND_DEVIATION": N_("Deviation"),
    "ALERT_KIND_LOOP_STALLED": N_("Loop stalled"),
    "ALERT_KIND_NO_RUN": N_("No run was opened"),
    "ALERT_END_DEVIATION_REJECTED": N_("The deviation was a false alarm"),
    "ALERT_END_DEVIATION_CLOSED": N_("The deviation was closed"),
    "ALERT_END_DEVIATION_CONFIRMED": N_("The deviation was confirmed"),
    "ALERT_END_STAGE_COMPLETED": N_("The stage was completed"),
    "ALERT_END_RUN_ENDED": N_("The run ended"),
    "ALERT_END_RUN_OPENED": N_("A run was opened"),
}
#: Names of loops and of their stages.
WORDS |= {
    "safety": N_("Safety"),
    "transfer": N_("Transfer"),
    "evidence": N_("Evidence"),
}

WORDS |= LOOPS
WORDS |= PLANT
WORDS |= SCIENCE
WORDS |= LEARNT_WORDS


def word(descriptor: Any, number: int) -> str:
    """The English word for a value of an enumeration."""
    value = descriptor.values_by_number.get(number)
    if value is None or number == 0:
        return N_("Not known")
    return WORDS.get(value.name, str(value.name))


def hazard(decision: Any) -> str:
    """The English words for the class of a health hazard that a dossier's decision is about; empty for
    another decision, and for a class that is not known here."""
    if decision.what != "HAZARD_EVALUATED":
        return ""
    return WORDS.get(f"HAZARD_CLASS_{decision.subject.removeprefix('class ')}", "")
