"""What each shared event joins: the things that it comes from, and those that it leads to.

A thing is written `kind:id`. Only events that every service may read are
here, so a lineage names no patient: the hop through patients is what sites
tell of a run in numbers. Kits of a blinded study are left out, for what they
were made of is not to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.traceability.domain.moments import iso

#: The kinds of things, in the order of the loops.
KINDS = (
    "target",
    "molecule",
    "product",
    "trial",
    "set",
    "transfer",
    "lot",
    "deviation",
    "run",
    "capa",
    "study",
    "insight",
    "hypothesis",
    "indication",
)
PRODUCT = "product"
#: The type of event that leads from a product to a study of it.
STUDIED: str = exchange.StudyRequested.DESCRIPTOR.full_name


@dataclass(frozen=True)
class Link:
    """What an event joins: it leads from things to others, or is about things."""

    froms: tuple[str, ...] = ()
    tos: tuple[str, ...] = ()
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hop:
    """An event of a lineage as it is kept. `at` is platform time (ISO, UTC); `froms`, `tos`, `about`: as in
    `Link`; `ids` their names without the kind; `recorded` is the wall time of its record (ISO, UTC), empty
    in a view that was made before it was kept; `site` the hospital of plans and of evidence; `plant_at` when
    a lot was started by its plant's clock (ISO, UTC)."""

    event: str
    type: str
    service: str
    at: str
    cause: str
    froms: tuple[str, ...] = ()
    tos: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    recorded: str = ""
    site: str = ""
    plant_at: str = ""


Joins: TypeAlias = Callable[[Any], Link]


def thing(kind: str, id: str) -> tuple[str, ...]:
    """The thing, unless nothing is named."""
    return (f"{kind}:{id}",) if id else ()


def kind_of(name: str) -> str:
    """The kind of a thing."""
    return name.partition(":")[0]


def id_of(name: str) -> str:
    """The id of a thing."""
    return name.partition(":")[2]


def _things(kind: str, ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for id in ids for name in thing(kind, id))


def _about(kind: str, field: str = "") -> Joins:
    """An event about one thing."""
    return lambda message: Link(about=thing(kind, getattr(message, field or kind)))


def _from(*froms: str, to: str) -> Joins:
    """An event that leads from things to another; each field bears the name of its kind."""

    def joins(message: Any) -> Link:
        found = tuple(name for kind in froms for name in thing(kind, getattr(message, kind)))
        return Link(found, thing(to, getattr(message, to)))

    return joins


def _started(message: production.LotStarted) -> Link:
    made_by = thing("transfer", message.transfer) or thing("product", message.product)
    return Link(made_by, thing("lot", message.lot))


def _material(message: traceability.MaterialRecorded) -> Link:
    return Link(_things("lot", [one.lot for one in message.inputs]), thing("lot", message.lot))


def _ranked(message: rnd.CandidatesRanked) -> Link:
    """The molecules at the end are where the next loop begins; nobody walks on from them."""
    return Link(thing("hypothesis", message.hypothesis), thing("indication", message.indication))


def _molecule(message: rnd.MoleculeRegistered) -> Link:
    return Link(thing("target", message.target), thing("molecule", message.molecule))


JOINS: dict[type[Message], Joins] = {
    rnd.TargetRegistered: _about("target"),
    rnd.MoleculeRegistered: _molecule,
    rnd.ProductRegistered: _from("molecule", "target", to="product"),
    rnd.TrialCompleted: _from("molecule", "product", to="trial"),
    rnd.ParameterSetDrafted: _from("product", "trial", to="set"),
    rnd.ParameterSetReviewed: _about("set"),
    rnd.ParameterSetReleased: _about("set"),
    rnd.ParameterSetWithdrawn: _about("set"),
    rnd.ReviewRequested: _about("set"),
    loops.TransferRunOpened: lambda m: Link(thing("set", m.set), thing("transfer", m.case)),
    production.TwinAdapted: _about("transfer"),
    production.TransferRefused: _about("transfer"),
    production.OptimisationProposed: _about("transfer"),
    production.OptimisationDecided: _about("transfer"),
    production.RecipeEffective: _about("transfer"),
    production.TransferOutcomeRecorded: _from("transfer", to="lot"),
    rnd.PredictionCalibrated: _about("transfer"),
    production.LotStarted: _started,
    production.LotReleased: _about("lot"),
    production.LotRejected: _about("lot"),
    traceability.MaterialRecorded: _material,
    production.DeviationConfirmed: _from("lot", to="deviation"),
    loops.SafetyRunOpened: _from("lot", "deviation", to="run"),
    traceability.ExposureSealed: _about("run"),
    clinical.PlansOpened: _about("run"),
    clinical.EvidenceReleased: _about("run"),
    production.HazardEvaluated: _about("run"),
    production.CapaProposed: _from("run", to="capa"),
    production.CapaRefused: _about("capa"),
    production.ProcessLimitChanged: _about("capa"),
    production.InsightPublished: _from("capa", to="insight"),
    rnd.InsightRecorded: _about("insight"),
    exchange.StudyRequested: _from("product", to="study"),
    exchange.StudyApproved: _about("study"),
    exchange.StudyRefused: _about("study"),
    exchange.JobOpened: _about("study"),
    exchange.JobAudited: _about("study"),
    exchange.JobEnded: _about("study"),
    exchange.InsightPublished: _from("study", to="insight"),
    exchange.ContributionMetered: _about("study"),
    rnd.InsightDeclined: _about("insight"),
    rnd.HypothesisUpdated: _from("insight", to="hypothesis"),
    rnd.CandidatesRanked: _ranked,
}


def site_of(message: Message) -> str:
    """The hospital that an event is of: a place, and no patient. Empty where an event has none."""
    if isinstance(message, clinical.PlansOpened | clinical.EvidenceReleased):
        return message.site
    return ""


def plant_time(message: Message) -> str:
    """When a lot was started by its plant's own clock; empty for other events, and where it is not told."""
    if isinstance(message, production.LotStarted) and message.HasField("at"):
        return iso(message.at)
    return ""


def link(message: Message, blinded: Callable[[str], bool]) -> Link:
    """What the event joins, without what may not be known: kits (`blinded` tells them by their key)."""
    found = JOINS[type(message)](message)
    named = (*found.froms, *found.tos, *found.about)
    hidden = any(kind_of(name) in ("lot", PRODUCT) and blinded(id_of(name)) for name in named)
    return Link() if hidden else found
