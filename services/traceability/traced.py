"""What a trace says, as the messages of its stream.

A message costs both ends far more than a dispense in it, so elements travel
together; and no message grows beyond what any client takes, so that a reader
who falls behind holds the stream back.
"""

from __future__ import annotations

from collections.abc import Iterator

from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.ids import in_kit
from services.traceability.domain.dispense import CORRECTED, RETURNED_UNOPENED, Dispense, Patient
from services.traceability.domain.graph import Node
from services.traceability.domain.moments import earliest, stamp
from services.traceability.views import Level

#: A message is sent once it holds so much; clients take 4 MB where they set nothing.
_PART_BYTES = 64 * 1024


def parts(level: Level) -> Iterator[api.TraceLotResponse]:
    """The lots of a level, then its dispenses; nothing waits for the next level."""
    part, size = api.TraceLotResponse(), 0
    for node in level.nodes:
        part.lots.append(_lot(node, level.depth))
        size += part.lots[-1].ByteSize()
        if size >= _PART_BYTES:
            yield part
            part, size = api.TraceLotResponse(), 0
    for dispense in level.dispenses:
        for element in _dispense(dispense):
            part.dispenses.append(element)
            size += element.ByteSize()
        if size >= _PART_BYTES:
            yield part
            part, size = api.TraceLotResponse(), 0
    if size:
        yield part


def _lot(node: Node, depth: int) -> api.TracedLot:
    return api.TracedLot(
        lot=node.lot,
        depth=depth,
        inputs=shown_inputs(node),
        known=node.known,
        suspect=node.suspect,
        inputs_withheld=in_kit(node.lot),
    )


def shown_inputs(node: Node) -> tuple[str, ...]:
    """What a kit of a blinded study holds tells its arm: the way is open down to it, and not up from it."""
    return () if in_kit(node.lot) else node.inputs


def _dispense(dispense: Dispense) -> Iterator[api.TracedDispense]:
    """One element for everybody whom the dispense names; one without a patient when it names nobody."""
    at, named = stamp(dispense.at), dispense.patients
    for patient in named or (_nobody(dispense),):
        yield api.TracedDispense(
            dispense=dispense.dispense,
            lot=dispense.lots[0],
            site=patient.site,
            pseudonym=patient.pseudonym,
            at=at,
            suspect=",".join(dispense.suspects),
            possible_lots=dispense.lots[1:],
            disposition=dispense.disposition(patient) if named else "",
        )


def _nobody(dispense: Dispense) -> Patient:
    return Patient(earliest(*(claim.site for claim in dispense.claims)), "")


def unnamed(dispense: Dispense) -> api.GetDispenseResponse:
    """A dispense without the person. What became of it is told only where it is so for everybody named."""
    became = {dispense.disposition(patient) for patient in dispense.patients}
    if not became and dispense.void:
        became = {RETURNED_UNOPENED if dispense.returns else CORRECTED}
    standing = dispense.standing or dispense.claims
    first = standing[0].lot if standing else dispense.lots[0]
    return api.GetDispenseResponse(
        dispense=dispense.dispense,
        lot=first,
        other_lots=[lot for lot in dispense.lots if lot != first],
        sites=sorted({claim.site for claim in standing if claim.site}),
        at=stamp(dispense.at),
        sources=dispense.sources,
        disposition=became.pop() if len(became) == 1 else "",
        suspect=",".join(dispense.suspects),
    )
