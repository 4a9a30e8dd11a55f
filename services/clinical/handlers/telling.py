"""The site tells the trace of a dispense that it alone has, until a journal names it.

A record may be lost on its way. A run that goes on is held open by the
difference; after the last one of a lot has closed, nobody else would notice.
"""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.message import Message

from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain import dispenses, moments
from services.clinical.domain.dispenses import Dispense, OwnRecord
from services.clinical.handlers.here import Here
from services.clinical.views import DISPENSES
from services.kit.ids import claim_id, derived_id
from services.kit.work import Work

#: Of a dispense that the trace was told of.
TELLING_STEP = "telling"
#: So many hours after each telling a journal should name the dispense; after the last one it is left.
_HOURS = (1, 4, 16, 64, 256, 1024)


def tell_trace(here: Here, work: Work, dispense: Dispense, own: OwnRecord) -> None:
    """Record as a fact what the hospital's own record says. Told again, it is the same claim as another
    record: the trace takes a claim once, and a topic's copy of a record may be the one that was lost."""
    after = dispenses.reported(dispense)
    fact = dispenses.fact(dispense, own, here.site, moments.stamp_of(own.at))
    claim = claim_id(dispense.dispense, fact.source, own.lot, here.site, own.pseudonym, own.at)
    id = derived_id("claim-again", claim, str(after.again)) if after.again else claim
    work.emit_fact(fact, id, subject=dispense.dispense)
    work.put(DISPENSES, dispense.dispense, after)
    if after.again < len(_HOURS):
        work.due(TELLING_STEP, dispense.dispense, here.now() + timedelta(hours=_HOURS[after.again]))


def tell_again(here: Here, work: Work, request: traceability.DispenseRecorded) -> Message:
    """The clock passed the time by which a journal should have named the dispense."""
    dispense = work.get(DISPENSES, request.dispense)
    own = dispenses.unheard(dispense) if dispense else None
    if dispense is not None and own is not None:
        tell_trace(here, work, dispense, own)
    return request
