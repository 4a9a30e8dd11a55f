"""A parameter set is drafted: the first version of a new set, or the next one from what a version says."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from services.portal.addresses import path_of
from services.portal.backend import Backend, Missing, Refused
from services.portal.drafting import Draft, Way, show_draft, take_draft
from services.portal.forms import Entry, Group, Typed, written
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.words import N_, word

router = APIRouter()
_ABOVE = "content."
_MOST_OFFERED = 200
_LOW, _HIGH, _UNIT = N_("Low"), N_("High"), N_("Unit")
#: Numbers of a vessel: the contract's name, what is read, and the unit.
VESSEL = (
    ("volume_m3", N_("Total volume"), "m3"),
    ("liquid_m3", N_("Liquid at the start"), "m3"),
    ("tank_diameter_m", N_("Tank diameter"), "m"),
    ("impeller_diameter_m", N_("Impeller diameter"), "m"),
    ("blade_width_m", N_("Blade width"), "m"),
    ("power_number", N_("Power number of an impeller"), ""),
    ("stirrer_min_per_s", N_("Slowest stirring"), "/s"),
    ("stirrer_max_per_s", N_("Fastest stirring"), "/s"),
    ("power_max_w", N_("Largest power of the drive"), "W"),
    ("gas_max_m3_per_s", N_("Largest gas flow"), "m3/s"),
    ("kla_calibration", N_("Measured kLa over the correlation's"), ""),
)
_ATTRIBUTES = Group(
    N_("Critical quality attributes"),
    (
        Entry("attribute", N_("Attribute"), required=True),
        Entry("limits.low", _LOW, "number"),
        Entry("limits.high", _HIGH, "number"),
        Entry("limits.unit", _UNIT),
    ),
    rows="attributes",
    help=N_("The specification of each, in a UCUM unit; an end that there is not is left empty."),
)
_PARAMETERS = Group(
    N_("Critical process parameters"),
    (
        Entry("parameter", N_("Parameter"), required=True),
        Entry("set_point", N_("Set-point"), "number", required=True),
        Entry("normal.low", N_("Normal range: low"), "number"),
        Entry("normal.high", N_("Normal range: high"), "number"),
        Entry("normal.unit", N_("Normal range: unit")),
        Entry("proven.low", N_("Proven range: low"), "number"),
        Entry("proven.high", N_("Proven range: high"), "number"),
        Entry("proven.unit", N_("Proven range: unit")),
    ),
    rows="parameters",
    help=N_(
        "The set-point has the unit of the normal operating range and lies in it; that lies in the proven "
        "acceptable range. A row that is left empty is not sent."
    ),
)
_TARGETS = Group(
    N_("Quality target product profile"),
    (Entry("attribute", N_("Attribute"), required=True), Entry("target", N_("What is aimed at"))),
    rows="targets",
)
_APPROVAL = Group(
    N_("Design space"),
    (
        Entry(
            "design_space.approval",
            N_("The authority's approval"),
            help=N_("Leave it empty where none is approved yet."),
        ),
    ),
)
_BOUNDS = Group(
    N_("Bounds of the design space"),
    (
        Entry("coefficients", N_("Factor of each parameter"), "weights", required=True),
        Entry("most", N_("Their sum at most"), "number", required=True),
    ),
    rows="design_space.bounds",
    help=N_("Besides the proven ranges; one parameter a line, as feed_rate = 2.5."),
)


@router.get("/drafts/set")
async def new(request: Request, of: str = "", version: int = 0) -> Response:
    """An empty form, or one that says what version `version` of the set `of` says."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    said: dict[str, list[str]] = {}
    if of:
        found = await backend.ask("rnd", "GetParameterSet", fresh=True, set=of, version=version)
        draft = await _draft(request, {"set": [of]})
        said = written(draft.groups, found.content, language) | {"set": [of]}
        return show_draft(request, draft, said)
    return show_draft(request, await _draft(request, {}), said)


@router.post("/drafts/set")
async def drafted(request: Request) -> Response:
    way = Way(
        "rnd",
        "DraftParameterSet",
        lambda found: {
            "set": found.fields["set"],
            "content": {name: value for name, value in found.fields.items() if name != "set"},
        },
        lambda answer, found: path_of("sets", found.fields["set"], str(answer.version)),
    )
    return await take_draft(request, lambda said: _draft(request, said), way)


async def _draft(request: Request, said: Typed) -> Draft:
    """The form for the set that is named in it, with what is on record of that set now."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    say = language.say
    of = next(iter(said.get("set", ())), "").strip()
    offered, _ = await parts(
        products=backend.ask("rnd", "ListProducts", page_size=_MOST_OFFERED),
        trials=backend.ask("rnd", "ListTrials", page_size=_MOST_OFFERED),
    )
    seen = next(iter(said.get("seen", ())), "")
    try:
        newest = await _newest(backend, of)
        seen = f"{newest.set}|{newest.version}" if newest is not None else ""
    except Missing:  # what was typed is kept: it stays as it was seen, and sending it tells who is away
        newest = None
    links: tuple[tuple[str, str], ...] = ()
    now, title = "", say("Draft a parameter set")
    if newest is not None:
        told = {"set": newest.set, "version": newest.version, "actor": newest.drafter}
        title = say("Draft the next version of %(set)s", set=newest.set)
        now = say(
            "%(set)s is at version %(version)s, drafted by %(actor)s. Yours becomes the next one.", **told
        )
        address = path_of("sets", newest.set, str(newest.version))
        links = ((address, say("Look at version %(version)s", version=newest.version)),)
    return Draft(
        title=title,
        purpose=say("A draft goes to no plant: a second person reviews it, and a third releases it."),
        back=path_of("sets", newest.set, str(newest.version)) if newest is not None else "/sets",
        submit=say("Record the draft"),
        groups=_groups(language, offered),
        above=_ABOVE,
        seen=seen,
        now=now,
        links=links,
    )


async def _newest(backend: Backend, of: str) -> Any:
    """The newest version of a set; None where there is none. Raises Missing where nobody knows."""
    if not of:
        return None
    try:
        answer = await backend.ask("rnd", "GetParameterSet", fresh=True, set=of)
    except Refused as refused:
        if refused.unknown:
            return None
        raise
    return answer.version


def _groups(language: Language, offered: dict[str, Any]) -> tuple[Group, ...]:
    products = (
        tuple((one.product, one.name) for one in offered["products"].products) if offered["products"] else ()
    )
    trials = (
        tuple((one.completed.trial, one.completed.statement) for one in offered["trials"].trials)
        if offered["trials"]
        else ()
    )
    criteria = tuple(
        (str(value.number), language.say(word(content.ScaleUpCriterion.DESCRIPTOR, value.number)))
        for value in content.ScaleUpCriterion.DESCRIPTOR.values
        if value.number
    )
    vessel = tuple(
        Entry(f"process.vessel.{name}", label, "number", unit=unit) for name, label, unit in VESSEL
    )
    return (
        Group(
            N_("What it is"),
            (
                Entry(
                    "set",
                    N_("Parameter set"),
                    required=True,
                    help=N_("Its id. A set that is on record gets its next version."),
                ),
                Entry(
                    "product",
                    N_("Product"),
                    required=True,
                    known=products,
                    help=N_("Canonical key: owner, scheme and item with slashes between them."),
                ),
                Entry("trial", N_("Virtual trial that supports it"), known=trials),
                Entry(
                    "statement", N_("What this version is for, and why it differs"), "words", required=True
                ),
            ),
        ),
        _PARAMETERS,
        _ATTRIBUTES,
        _TARGETS,
        _APPROVAL,
        _BOUNDS,
        Group(
            N_("Process as developed"),
            (
                Entry(
                    "process.model", N_("Model that the twin runs"), help=N_("For example pensim-reduced.")
                ),
                Entry("process.criterion", N_("Kept when the scale changes"), "enum", options=criteria),
                Entry("process.duration_h", N_("Duration"), "number", unit="h"),
                Entry("process.stirrer_per_s", N_("Stirring"), "number", unit="/s"),
                Entry("process.gas_m3_per_s", N_("Gas flow"), "number", unit="m3/s"),
            ),
        ),
        Group(
            N_("Vessel it was developed in"),
            (*vessel, Entry("process.vessel.impellers", N_("Impellers on the shaft"), "whole")),
        ),
    )
