"""A study is asked for: the question, whom it is put to, who belongs to the cohort, how it is computed."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from services.portal.addresses import path_of
from services.portal.backend import Backend
from services.portal.drafting import Draft, Way, show_draft, take_draft
from services.portal.forms import Entry, Group, Typed, written
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.specifications import MODELS, Asked, proposed
from services.portal.words import N_, word

router = APIRouter()
_MOST_OFFERED = 200
#: Days of a specification to begin with, where none are said, and the most that exchange takes.
_DAYS, _MOST_DAYS = 28, 3650
#: Around each foreign part of a line, so that its writing direction ends with it (Unicode, UAX 9).
_ISOLATE, _END = "\u2068", "\u2069"
#: What a study that is asked again does not take from the one before.
_OWN = ("study", "expires", "ethics.until")


@router.get("/drafts/study")
async def new(request: Request, of: str = "", follows: str = "") -> Response:
    """An empty form, or one that asks what the study `of` asked; `follows` is the study whose finding it
    follows up."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    draft = await _draft(request)
    said: dict[str, list[str]] = {"definition.version": ["1"]}
    if of or follows:
        found = await backend.ask("exchange", "GetStudy", study=of or follows)
        said = written(draft.groups, found.study.requested, language)
        for name in _OWN:
            said.pop(name, None)
        said["specification"] = [_pretty(found.study.requested.specification)]
    if follows:
        said["follows"] = [follows]
    return show_draft(request, draft, said)


@router.post("/drafts/study")
async def requested(request: Request) -> Response:
    async def ask(_: Typed) -> Draft:
        return await _draft(request)

    way = Way(
        "exchange",
        "RequestStudy",
        lambda found: found.fields,
        lambda answer, _: path_of("studies", answer.study),
        _proposed,
    )
    return await take_draft(request, ask, way)


def _pretty(told: str) -> str:
    try:
        return json.dumps(json.loads(told), indent=2, ensure_ascii=False) if told else ""
    except ValueError:
        return told


def _proposed(said: Typed) -> dict[str, str]:
    """A specification of the model and the covariates that are picked, for a person to complete."""
    days = _first(said, "definition.outcome.days")
    asked = Asked(
        change=_first(said, "definition.outcome.kind") == str(cohort.OUTCOME_KIND_LAB_CHANGE),
        days=min(int(days), _MOST_DAYS) if days.isdecimal() and int(days) else _DAYS,
        indicators=_indicators(said),
    )
    made = proposed(_first(said, "model"), asked)
    return {"specification": json.dumps(made, indent=2)} if made else {}


def _indicators(said: Typed) -> list[str]:
    """The columns of the covariates that are yes or no, as sites name them."""
    asked = set(said.get("definition.covariates", ()))
    found = []
    if str(cohort.COVARIATE_AGE_BAND) in asked:
        ages = [one for one in re.split(r"[^0-9]+", _first(said, "definition.age_bands")) if one]
        found += [f"age_{int(age)}" for age in ages[1:]]
    if str(cohort.COVARIATE_SEX) in asked:
        found.append("female")
    if str(cohort.COVARIATE_GENOTYPE) in asked:
        found.append("genotype")
    return found


def _first(said: Typed, name: str) -> str:
    return next(iter(said.get(name, ())), "").strip()


async def _draft(request: Request) -> Draft:
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    say = language.say
    offered, _ = await parts(
        datasets=backend.ask("exchange", "ListDatasets", page_size=1000),
        products=backend.ask("rnd", "ListProducts", page_size=_MOST_OFFERED),
    )
    return Draft(
        title=say("Ask a study"),
        purpose=say(
            "Each owner decides for its site; then the sites compute together, "
            "and no patient's row leaves any."
        ),
        back="/studies",
        submit=say("Ask the study"),
        groups=_groups(language, offered),
        helper=("specification", say("Write a specification to begin with")),
    )


def _dataset(language: Language, one: Any) -> tuple[str, str]:
    """A dataset as it is offered: what it has, and whether its agent is there."""
    registered = one.registered
    told = [registered.dataset]
    if registered.products:
        told.append(", ".join(registered.products))
    if registered.covariates:
        words = (language.say(word(cohort.Covariate.DESCRIPTOR, kind)) for kind in registered.covariates)
        told.append(", ".join(words))
    if not one.connected:
        told.append(language.say("its agent is not connected"))
    return registered.dataset, " · ".join(f"{_ISOLATE}{part}{_END}" for part in told)


def _enum(language: Language, kind: Any) -> tuple[tuple[str, str], ...]:
    """The values of an enumeration of the contract, as one picks them."""
    return tuple(
        (str(one.number), language.say(word(kind.DESCRIPTOR, one.number)))
        for one in kind.DESCRIPTOR.values
        if one.number
    )


def _groups(language: Language, offered: dict[str, Any]) -> tuple[Group, ...]:
    datasets = (
        tuple(_dataset(language, one) for one in offered["datasets"].datasets) if offered["datasets"] else ()
    )
    products = (
        tuple((one.product, one.name) for one in offered["products"].products) if offered["products"] else ()
    )
    at = "definition."
    return (
        Group(
            N_("The question"),
            (
                Entry("question", N_("Question"), "words", required=True),
                Entry("purpose", N_("What the answer is for"), "words", required=True),
                Entry(
                    "datasets",
                    N_("Datasets"),
                    "ticks",
                    required=True,
                    options=datasets,
                    help=N_("Of at least three sites, one of each: fewer could not hide their numbers."),
                ),
                Entry("study", N_("Id"), help=N_("Left empty, it gets one.")),
                Entry(
                    "follows", N_("Follows up"), help=N_("Id of an answered study; empty for a first one.")
                ),
            ),
        ),
        Group(
            N_("Ethics and end"),
            (
                Entry("ethics.board", N_("Ethics board"), required=True),
                Entry("ethics.reference", N_("Its reference"), required=True),
                Entry("ethics.until", N_("Its approval holds until"), "moment", required=True),
                Entry(
                    "expires", N_("Ends at the latest"), "moment", help=N_("With the approval if left empty.")
                ),
            ),
        ),
        Group(
            N_("Who belongs to the cohort"),
            (
                Entry("definition.definition", N_("Id of the definition")),
                Entry("definition.version", N_("Its version"), "whole"),
                Entry("definition.product", N_("Product"), required=True, known=products),
                Entry("definition.from", N_("First dose not before"), "moment", required=True),
                Entry("definition.until", N_("First dose before"), "moment", required=True),
            ),
        ),
        Group(
            N_("What makes members exposed"),
            (
                Entry(
                    f"{at}exposure.kind",
                    N_("By what"),
                    "enum",
                    required=True,
                    options=_enum(language, cohort.ExposureKind),
                ),
                Entry(f"{at}exposure.tag", N_("Tag of the band")),
                Entry(f"{at}exposure.low", N_("Band from"), "number"),
                Entry(f"{at}exposure.high", N_("Band below"), "number"),
                Entry(f"{at}exposure.unit", N_("Unit")),
                Entry(f"{at}exposure.genotype", N_("Genotype"), help=N_("For example CYP2C9*1/*3.")),
                Entry(f"{at}exposure.lots", N_("Lots, one a line"), "lines"),
            ),
            help=N_("Fill in what belongs to the kind that you choose."),
        ),
        Group(
            N_("What is looked for"),
            (
                Entry(
                    f"{at}outcome.kind",
                    N_("What"),
                    "enum",
                    required=True,
                    options=_enum(language, cohort.OutcomeKind),
                ),
                Entry(f"{at}outcome.days", N_("Days after the first dose"), "whole", required=True),
                Entry(f"{at}outcome.lab", N_("LOINC code of the laboratory value")),
                Entry(f"{at}outcome.unit", N_("Unit")),
                Entry(f"{at}outcome.terms", N_("Terms of adverse events, one a line"), "lines"),
            ),
        ),
        Group(
            N_("What else is known of members"),
            (
                Entry(
                    f"{at}covariates", N_("Covariates"), "enums", options=_enum(language, cohort.Covariate)
                ),
                Entry(
                    f"{at}age_bands",
                    N_("Lower ends of the age bands in years"),
                    "wholes",
                    help=N_("Rising, with commas between them; the first is the reference."),
                ),
                Entry(f"{at}genotype", N_("Genotype of the covariate")),
            ),
        ),
        Group(
            N_("How it is computed"),
            (
                Entry(
                    "model", N_("Model"), "pick", required=True, options=tuple((one, one) for one in MODELS)
                ),
                Entry(
                    "specification",
                    N_("Specification as JSON"),
                    "words",
                    required=True,
                    help=N_(
                        "Ranges, levels and times are agreed before anybody looks at the data. "
                        "The thresholds of protection may be stricter here than the platform's, "
                        "never weaker. The second button at the end writes one to begin with."
                    ),
                ),
                Entry("most_rounds", N_("Most rounds of a job"), "whole", help=N_("60 if left empty.")),
                Entry(
                    "profile",
                    N_("How strictly sites look"),
                    "enum",
                    options=_enum(language, events.DisclosureProfile),
                    help=N_("As patients' data if left empty."),
                ),
                Entry("epsilon", N_("Noise for privacy: epsilon"), "number", help=N_("Empty for no noise.")),
                Entry("delta", N_("Noise for privacy: delta"), "number"),
                Entry("valued", N_("The contribution of each site is to be valued"), "tick"),
            ),
        ),
    )
