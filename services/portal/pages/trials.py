"""Virtual trials: whether a product is worth going on with, told before anybody takes it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.rnd.v1 import events_pb2 as events
from services.portal.addresses import path_of
from services.portal.backend import Backend
from services.portal.drafting import Draft, Way, show_draft, take_draft
from services.portal.forms import Entry, Group, Typed
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.words import N_

router = APIRouter()
_ROWS = 100
_MOST_OFFERED = 200
_KINDS = {events.TRIAL_VERDICT_GO: "good", events.TRIAL_VERDICT_NO_GO: "watch"}
_LIVE = ("type:TrialCompleted",)
_DESIGN = Group(
    N_("Design"),
    (
        Entry(
            "design.control_dose_mg", N_("Fixed dose a day"), "number", unit="mg", help=N_("3 if left empty.")
        ),
        Entry(
            "design.target_inr", N_("Mean INR aimed at by genotype"), "number", help=N_("2.5 if left empty.")
        ),
        Entry("design.patients_each", N_("Patients of each arm"), "whole", help=N_("60 if left empty.")),
        Entry("design.days", N_("Days of treatment"), "whole", help=N_("30 if left empty.")),
        Entry(
            "design.visits",
            N_("Days on which INR is read"),
            "wholes",
            help=N_("The first day is 0; 6, 9, 13, 17, 21, 25 and 29 if left empty."),
        ),
        Entry("design.looks", N_("Planned looks at the data"), "whole", help=N_("1 if left empty.")),
        Entry("design.alpha", N_("One-sided error"), "number", help=N_("0.025 if left empty.")),
        Entry("design.replicates", N_("How often the trial is run"), "whole", help=N_("500 if left empty.")),
        Entry(
            "design.least_probability",
            N_("Go from this probability of success on"),
            "number",
            help=N_("0.8 if left empty."),
        ),
        Entry(
            "design.least_difference",
            N_("Go from this difference of the arms on, in percentage points"),
            "number",
            help=N_("5 if left empty."),
        ),
    ),
)
_LOTS = Group(
    N_("Lots that the packs come from"),
    (
        Entry("lot", N_("Lot"), required=True),
        Entry("potency", N_("Measured potency over the label's"), "number", required=True),
        Entry("share", N_("Part of the packs"), "number"),
    ),
    rows="design.lots",
    help=N_("Left empty, every pack holds what its label says. A potency of 0.98 is 98 %."),
)


@router.get("/trials")
async def trials(request: Request, product: str = "", token: str = "") -> Response:
    """Every trial, newest first."""
    backend: Backend = request.app.state.backend
    product = product.strip()
    found, missing = await parts(
        trials=backend.ask("rnd", "ListTrials", product=product, page_size=_ROWS, page_token=token)
    )
    after = found["trials"].next_page_token if found["trials"] else ""
    values = {
        "rows": list(found["trials"].trials) if found["trials"] else [],
        "kinds": _KINDS,
        "product": product,
        "next": f"?{urlencode({'product': product, 'token': after})}" if after else "",
        "missing": missing,
    }
    return page(request, "trials.html", values, live=_LIVE)


@router.get("/trials/{trial:path}")
async def one(request: Request, trial: str) -> Response:
    """One trial: its verdict and what that rests on."""
    backend: Backend = request.app.state.backend
    answer = await backend.ask("rnd", "GetTrial", trial=trial)
    shown = answer.trial
    found, missing = await parts(
        sets=backend.ask("rnd", "ListParameterSets", product=shown.completed.product, page_size=1000)
    )
    versions = found["sets"].versions if found["sets"] else ()
    values = {
        "trial": shown.completed,
        "at": shown.at,
        "kind": _KINDS.get(shown.completed.verdict, "normal"),
        "design": _pretty(shown.completed.design),
        "supports": [version for version in versions if version.trial == trial],
        "missing": missing,
    }
    return page(request, "trial.html", values, live=(trial, "type:ParameterSetDrafted"))


def _pretty(told: str) -> str:
    try:
        return json.dumps(json.loads(told), indent=2, ensure_ascii=False) if told else ""
    except ValueError:
        return told


@router.get("/drafts/trial")
async def new(request: Request, product: str = "") -> Response:
    said = {"product": [product], "seed": ["1"]}
    return show_draft(request, await _draft(request), said)


@router.post("/drafts/trial")
async def ran(request: Request) -> Response:
    async def ask(_: Typed) -> Draft:
        return await _draft(request)

    way = Way(
        "rnd",
        "RunTrial",
        lambda found: found.fields,
        lambda answer, _: path_of("trials", answer.trial.trial),
    )
    return await take_draft(request, ask, way)


async def _draft(request: Request) -> Draft:
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    offered, _ = await parts(products=backend.ask("rnd", "ListProducts", page_size=_MOST_OFFERED))
    answer: Any = offered["products"]
    products = tuple((one.product, one.name) for one in answer.products) if answer else ()
    question = Group(
        N_("The question"),
        (
            Entry("product", N_("Product"), required=True, known=products),
            Entry("context_of_use", N_("The question, and what its answer is for"), "words", required=True),
            Entry(
                "seed",
                N_("Seed of its random numbers"),
                "long",
                help=N_("The same question with the same seed is one trial and is run once."),
            ),
        ),
    )
    return Draft(
        title=language.say("Run a virtual trial"),
        purpose=language.say(
            "A fixed dose of warfarin against one by genotype, in simulated patients: it says go or no go, "
            "and a go may support a parameter set."
        ),
        back="/trials",
        submit=language.say("Run the trial"),
        groups=(question, _DESIGN, _LOTS),
    )
