"""A run as pages show it: its stages against their SLO, what it waits for, and who may do the next thing.

A stage's SLO is on the platform clock, so a simulated month is judged like a real one; how long a
stage took on the wall stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pharmaloop.loops.v1 import service_pb2 as api
from services.kit.lacking import Control
from services.portal.addresses import path_of as path
from services.portal.words import N_, WORDS

QUALITY_HEAD = N_("Quality head of the lot's owner")
HOSPITAL = N_("Pharmacists of the sites")
PATIENTS = N_("patients, who answer; a pharmacist of the site may record it")
MANAGER = N_("Manager of the plant")
OWNER = N_("Owners of the sites' data")
SCIENTIST = N_("Scientist of the product")

#: By loop and stage, where one looks when it should have gone on by itself, and did not: the button, and the
#: page ("": that of the run's thing, "#": a part of the run's own page).
STOPS = {
    ("safety", "trace"): (N_("To the services"), "/status"),
    ("safety", "receive"): (N_("To the sites"), "#sites"),
    ("safety", "hold"): (N_("To the implicated lots"), "#lots"),
    ("safety", "plan"): (N_("To the sites"), "#sites"),
    ("safety", "propose"): (N_("To the evidence"), "#evidence"),
    ("safety", "learn"): (N_("To the services"), "/status"),
    ("transfer", "adapt"): (N_("To the transfer"), ""),
    ("transfer", "advise"): (N_("To the transfer"), ""),
    ("transfer", "learn"): (N_("To the transfer"), ""),
    ("evidence", "freeze"): (N_("To the study"), ""),
    ("evidence", "compute"): (N_("To the study"), ""),
    ("evidence", "publish"): (N_("To the study"), ""),
}
#: By loop and stage: what it waits for, and whose turn it is ("" where the platform goes on by itself).
WAITS = {
    ("safety", "trace"): (N_("the first announcement of the exposure journal"), ""),
    ("safety", "receive"): (N_("a site to hold what was announced"), ""),
    ("safety", "hold"): (N_("the owner's decision on an implicated lot"), ""),
    ("safety", "plan"): (N_("monitoring plans of exposed patients"), ""),
    ("safety", "seal"): (N_("the journal's seal: a site or a dispense is unexplained"), HOSPITAL),
    ("safety", "evaluate"): (N_("a person to evaluate the health hazard"), QUALITY_HEAD),
    ("safety", "notify"): (N_("patients to be told"), HOSPITAL),
    ("safety", "respond"): (N_("patients' answers"), PATIENTS),
    ("safety", "propose"): (N_("evidence of a site, or production to propose"), ""),
    # What is missing of it, `turn` says where production answers.
    ("safety", "approve"): (
        N_("the corrective action to be approved, validated and assessed for filing"),
        QUALITY_HEAD,
    ),
    ("safety", "learn"): (N_("research to take the finding"), ""),
    ("transfer", "adapt"): (N_("the plant's twin to fit the parameters to a line"), ""),
    ("transfer", "advise"): (N_("the plant's twin to propose set-points"), ""),
    ("transfer", "sign"): (N_("a person to decide on the proposal"), MANAGER),
    ("transfer", "validate"): (N_("the recipe's validation and the assessment of its filing"), MANAGER),
    ("transfer", "produce"): (N_("a first lot that is made by the recipe and tested"), MANAGER),
    ("transfer", "learn"): (N_("research to take the lot's outcome"), ""),
    ("evidence", "approve"): (N_("an owner to approve the study"), OWNER),
    ("evidence", "freeze"): (N_("a job whose sites have all frozen their cohorts"), ""),
    ("evidence", "compute"): (N_("a job whose rounds are on record"), ""),
    ("evidence", "publish"): (N_("the study's answer"), ""),
    ("evidence", "take-up"): (N_("research to take up the finding"), SCIENTIST),
}
#: By the steps that a corrective action lacks, what its run waits for.
LACKS = {
    ("approve",): N_("a person to approve the corrective action"),
    ("validate", "file"): N_("validation and filing assessment of the corrective action"),
    ("validate",): N_("validation of the corrective action"),
    ("file",): N_("filing assessment of the corrective action"),
    (): N_("the changed limit to reach the loop"),
}
#: What the run of a refused corrective action waits for.
REFUSED = N_("the refusal of the corrective action to reach the loop")
#: What the button of a step says.
DEEDS = {"validate": N_("Record the validation"), "file": N_("Record the filing assessment")}


def stage_word(loop: str, stage: str) -> str:
    """A stage as people read it: a word of its loop where the same name is another thing elsewhere."""
    return WORDS.get(f"{loop}/{stage}", WORDS.get(stage, stage))


@dataclass(frozen=True)
class Step:
    """One stage of a run. `wall`: seconds of the wall; `took`, `slo`: of the platform clock; 0: not known."""

    name: str
    #: "done", "late" (done, over its SLO), "now", "stuck" (present, over its SLO) or "next".
    state: str
    wall: float = 0.0
    took: float = 0.0
    slo: float = 0.0
    ended: Any = None
    due: Any = None

    @property
    def share(self) -> float | None:
        """How much of its SLO it used; None where there is none."""
        return self.took / self.slo if self.slo > 0 and self.state != "next" else None


@dataclass(frozen=True)
class Turn:
    """The next thing to do: what, whose turn it is ("": nobody has to act), and the page where it is done, or
    where one looks why it stopped. `by`: who approved the corrective action; `others`: further buttons."""

    waits: str
    who: str = ""
    label: str = ""
    to: str = ""
    by: str = ""
    others: tuple[tuple[str, str], ...] = ()


def steps(run: Any, now: datetime | None) -> list[Step]:
    """The stages of a run in order; `now` is the platform clock's time."""
    found = [
        Step(
            one.name,
            "late" if 0 < one.slo_seconds < one.platform_seconds else "done",
            one.seconds,
            one.platform_seconds,
            one.slo_seconds,
            one.ended,
        )
        for one in run.stages
    ]
    if run.stage and run.state != api.RUN_STATE_CLOSED:
        since = run.stage_since.ToDatetime(UTC) if run.HasField("stage_since") else None
        took = max(0.0, (now - since).total_seconds()) if now and since else 0.0
        stuck = run.state == api.RUN_STATE_STALLED
        due = run.stage_due if run.HasField("stage_due") else None
        found.append(
            Step(run.stage, "stuck" if stuck else "now", took=took, slo=run.stage_slo_seconds, due=due)
        )
        found += [Step(one.name, "next", slo=one.slo_seconds) for one in run.next_stages]
    return found


def in_control(run: Any) -> bool:
    """Does the run wait for its corrective action, so that production is asked what that lacks?"""
    return bool(run.state != api.RUN_STATE_CLOSED and (run.loop, run.stage) == ("safety", "approve"))


def turn(run: Any, hops: Iterable[Any] = (), control: Control | None = None) -> Turn | None:
    """What the run waits for and whose turn it is; None when it ended. `hops` name its corrective action,
    `control` says what that lacks, where production told it."""
    if run.state == api.RUN_STATE_CLOSED:
        return None
    if control is not None and in_control(run):
        return _controlled(run, control)
    waits, who = WAITS.get((run.loop, run.stage), (run.waiting_for, ""))
    label, to = _place(run, hops) if who else ("", "")
    if not who and run.state == api.RUN_STATE_STALLED:
        label, to = _stop(run)
    return Turn(waits, who, label, to)


def _controlled(run: Any, control: Control) -> Turn:
    """The next step of a run that waits for its corrective action."""
    waits = REFUSED if control.refused else LACKS[control.steps]
    if not control.steps:
        label, to = _stop(run) if run.state == api.RUN_STATE_STALLED else ("", "")
        return Turn(waits, "", label, to, control.by)
    if not control.by:
        return Turn(waits, QUALITY_HEAD, N_("To the corrective action"), path("capas", control.capa))
    first, *others = [(DEEDS[step], path("capas", control.capa, step)) for step in control.steps]
    return Turn(waits, QUALITY_HEAD, *first, control.by, tuple(others))


def _stop(run: Any) -> tuple[str, str]:
    """What the button says, and where it leads, of a run that is late where nobody had to act."""
    label, to = STOPS.get((run.loop, run.stage), (N_("To the services"), "/status"))
    if not to:
        return _place(run, ())
    return label, f"{path('runs', run.run)}{to}" if to.startswith("#") else to


def _place(run: Any, hops: Iterable[Any]) -> tuple[str, str]:
    """What the button says, and where it leads."""
    if run.loop == "transfer":
        return N_("To the transfer"), path("transfers", run.case)
    if run.loop == "evidence":
        if run.stage == "take-up":
            return N_("To the findings"), "/hypotheses"
        return N_("To the study"), path("studies", run.opened_evidence.study)
    if run.stage == "evaluate":
        return N_("Evaluate the health hazard…"), path("runs", run.run, "hazard")
    if run.stage == "approve":
        capas = [one.id for hop in hops for one in hop.leads_to if one.kind == "capa"]
        return N_("To the corrective action"), path("capas", capas[-1]) if capas else "/capas"
    return N_("To the sites"), f"/runs/{run.run}#sites"


def may_cancel(run: Any, phase: str = "") -> bool:
    """May a person still end the run? Not one that ended, nor one whose journal is sealed: its patients are
    known and followed. `phase` is the journal's, where it is known."""
    sealed = phase == "sealed" or any(stage.name == "seal" for stage in run.stages)
    return bool(run.state != api.RUN_STATE_CLOSED) and not sealed
