"""The loop board: every run, stuck first, its stages against their SLO, and whose turn it is."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2 as production
from services.kit import lacking, waiting
from services.kit.lacking import Control
from services.portal.backend import Backend
from services.portal.clock import platform_time
from services.portal.drawing.stages import bars
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.running import in_control, stage_word, steps, turn
from services.portal.words import word

router = APIRouter()
_STATES = {
    "stalled": api.RUN_STATE_STALLED,
    "open": api.RUN_STATE_OPEN,
    "ended": api.RUN_STATE_CLOSED,
}
_KINDS = api.RunState.DESCRIPTOR
_LOOPS = ("safety", "transfer", "evidence")
_ROWS = 100
#: What changes which steps of its corrective action a run waits for.
_OF_CONTROL = ("type:CapaApproved", "type:CapaRefused", "type:ChangeValidated", "type:ChangeFilingAssessed")


@router.get("/runs")
async def board(
    request: Request,
    loop: str = "",
    state: str = "",
    product: str = "",
    plant: str = "",
    site: str = "",
    after: str = "",
) -> Response:
    """Which loops run, which are stuck: stuck first."""
    backend: Backend = request.app.state.backend
    loop = loop if loop in _LOOPS else ""
    state = state if state in _STATES else ""
    about: dict[str, Any] = {"product": product.strip(), "plant": plant.strip(), "site": site.strip()}
    found, missing = await parts(
        runs=backend.ask(
            "loops",
            "ListRuns",
            loop=loop,
            state=_STATES.get(state, api.RUN_STATE_UNSPECIFIED),
            order=api.RUN_ORDER_STUCK_FIRST,
            page_size=_ROWS,
            page_token=after,
            **about,
        ),
        counts=backend.ask("loops", "CountRuns", **about),
        now=platform_time(backend),
    )
    language: Language = request.state.language
    filters = {"loop": loop, "state": state, **about}
    told = found["runs"]
    runs = list(told.runs) if told else []
    controls = await _controls(backend, runs)
    rows = [_row(run, found["now"], language, controls.get(run.run)) for run in runs]
    token = told.next_page_token if told else ""
    values = {
        "rows": rows,
        "stage_word": stage_word,
        "counts": _counts(found["counts"]),
        "missing": missing,
        "filters": filters,
        "loops": _LOOPS,
        "states": list(_STATES),
        "state_word": lambda name: language.say(word(_KINDS, _STATES[name])),
        "sites": sorted(backend.sites),
        "plants": sorted({run.plant for run in runs if run.plant}),
        "products": sorted({run.product for run in runs if run.product}),
        "link": lambda **other: "?" + urlencode({k: v for k, v in (filters | other).items() if v}),
        "next": "?" + urlencode({**{k: v for k, v in filters.items() if v}, "after": token}) if token else "",
        "first": bool(after),
        "moving": any(row["present"] for row in rows),
    }
    return page(request, "runs.html", values, live=("domain:loops", *_OF_CONTROL))


async def _controls(backend: Backend, runs: list[Any]) -> dict[str, Control]:
    """By run, what its corrective action lacks, of those that wait for theirs. The lists are those of what
    waits for a person; a run that they do not have is told in general words."""
    if not any(in_control(run) for run in runs):
        return {}
    found, _ = await parts(
        **{
            name: backend.ask(
                "production", "ListCapas", state=state, oldest_first=True, page_size=waiting.MOST
            )
            for name, state in (
                ("proposed", production.CAPA_STATE_PROPOSED),
                ("approved", production.CAPA_STATE_APPROVED),
            )
        }
    )
    rows = [row for answer in found.values() if answer for row in answer.capas]
    return {row.proposed.run: control for row in rows if (control := lacking.of_capas([row]))}


def _row(run: Any, now: Any, language: Language, control: Control | None = None) -> dict[str, Any]:
    """A run with its stages drawn; `control`: what its corrective action lacks, where that is known."""
    stages = steps(run, now)
    done = sum(step.state in ("done", "late") for step in stages)
    present = next((step for step in stages if step.state in ("now", "stuck")), None)
    late = sum(step.state == "late" for step in stages)
    said = language.say(
        "%(done)s of %(all)s stages done, %(late)s of them late",
        done=language.count(done),
        all=language.count(len(stages)),
        late=language.count(late),
    )
    if present and present.share is not None:
        said += "; " + language.say(
            "%(stage)s: %(share)s of its SLO",
            stage=language.say(stage_word(run.loop, present.name)),
            share=language.percent(present.share, 0),
        )
    return {
        "run": run,
        "bars": bars(stages, label=said) if stages else "",
        "done": done,
        "of": len(stages),
        "present": present,
        "turn": turn(run, control=control),
    }


def _counts(told: Any) -> dict[str, dict[str, int]] | None:
    """By loop and state; None where they are not known."""
    if told is None:
        return None
    names = {number: name for name, number in _STATES.items()}
    found = {loop: dict.fromkeys(_STATES, 0) for loop in _LOOPS}
    for one in told.counts:
        if one.loop in found and one.state in names:
            found[one.loop][names[one.state]] += one.count
    return found
