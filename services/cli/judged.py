"""`deviation show` and `capa show`: one thing that a person judges, what it rests on, and what comes next."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as api
from services.cli.beginnings import CAPA_ID, DEVIATION_ID
from services.cli.group import PROGRAM
from services.cli.limits import change, lacking
from services.cli.nouns import CAPA, DEVIATION
from services.cli.plain import brief, plain, word
from services.cli.session import LOT_KEY, Missing, Session
from services.cli.tables import Sheet, table

#: Samples of the evidence that people are shown where they ask for no other number; programs get all.
_SAMPLES = 10
#: Where the words of an event's name part.
_PARTS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_UNJUDGED = ("open", "under_investigation")
_REAL = ("confirmed", "capa_required")


@dataclass(frozen=True)
class _Decision:
    """A decision's verb, the states in which it may be taken, what it is given, and what must not be known:
    `unless` names a part of the answer that has the decision once it was taken, or a lack."""

    verb: str
    states: tuple[str, ...]
    given: str
    unless: str = ""


_ABOUT_DEVIATION = (
    _Decision("confirm", _UNJUDGED, "--reason REASON"),
    _Decision("reject", _UNJUDGED, "--reason REASON"),
    _Decision("investigate", ("open",), "--reason REASON"),
    _Decision("classify", (*_UNJUDGED, *_REAL), "--severity SEVERITY --impact TEXT"),
    _Decision("close", _REAL, "--reason REASON", unless="unclassified"),
)
_ABOUT_CAPA = (
    _Decision("approve", ("proposed",), "--meaning MEANING"),
    _Decision("refuse", ("proposed",), "--reason REASON --meaning MEANING"),
    _Decision("validate", ("approved",), "--record RECORD --statement TEXT", unless="validated"),
    _Decision("file", ("approved",), "--category CATEGORY --statement TEXT", unless="filing"),
    _Decision("check", ("effective",), "--outcome OUTCOME --statement TEXT", unless="check"),
)
#: Steps of change control, as people call them, by the event of the history that tells each.
_STEPS = {
    "CapaProposed": "proposal",
    "CapaApproved": "approval",
    "ChangeValidated": "validation",
    "ChangeFilingAssessed": "filing assessment",
    "ProcessLimitChanged": "taking effect",
    "CapaEffectivenessChecked": "effectiveness check",
}
_REFUSAL = {"CapaProposed": "proposal", "CapaRefused": "refusal"}
#: By state, how many of the steps are behind it: what was done before histories were kept has no moment.
_BEHIND = {"approved": 2, "effective": 5, "closed": 6}
#: By event of a step, the part of the answer that has it, and which of its fields say what was done.
_PART_OF = {
    "CapaRefused": ("refused", ("reason",)),
    "ChangeValidated": ("validated", ("record", "statement")),
    "ChangeFilingAssessed": ("filing", ("category", "reference", "statement")),
    "CapaEffectivenessChecked": ("check", ("outcome", "statement")),
}
_ENUMS = {"category": "FILING_CATEGORY", "outcome": "EFFECTIVENESS_OUTCOME"}


@DEVIATION.verb(
    "show",
    "maker-1/item/granulate/G-0041 d-3",
    "maker-1/item/granulate/G-0041 d-3 --samples 40",
    "maker-1/item/granulate/G-0041 d-3 --json",
    watched=True,
)
@click.argument("lot", type=LOT_KEY)
@click.argument("deviation", type=DEVIATION_ID)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=_SAMPLES,
    show_default=True,
    help="Latest samples of the evidence that the table has; --json has all of them.",
)
@click.pass_obj
def show_deviation(session: Session, lot: str, deviation: str, samples: int) -> None:
    """Show DEVIATION of LOT: what was detected, its evidence, who decided what, and what may be decided."""
    request = api.ListDeviationsRequest(lot=lot, deviation=deviation)
    answer = session.call(session.production.ListDeviations, request)
    row = next((one for one in answer.deviations if one.detected.deviation == deviation), None)
    if row is None:
        raise Missing(f"there is no deviation {deviation} of lot {lot}")
    found = plain(row)
    state = word(found["state"], "DEVIATION_STATE")
    known = {"unclassified": word(found["severity"], "SEVERITY") == "unspecified"}
    follows = _follows("deviation", (lot, deviation), state, known, _ABOUT_DEVIATION)

    def people(out: Console) -> None:
        out.print(table(f"Deviation {deviation}", ["what", "value"], _detected(found)))
        out.print()
        out.print(_evidence(found, samples))
        out.print()
        out.print(_history(found["history"]))
        if not found["history"]:
            told = f"{PROGRAM} lot dossier {shlex.quote(lot)}"
            out.print(f"what was decided before histories were kept: '{told}'")
        _may_follow(out, follows)

    session.show({"deviation": found, "next": follows}, people)


def _detected(found: dict[str, Any]) -> list[list[str]]:
    """What was detected, and how it went on."""
    seen = found["detected"]
    latest = found["updated"] or seen
    outside = str(latest["samples_out"])
    if found["updated"]:
        outside += ", and the latest is outside" if latest["lasting"] else ", the latest is inside again"
    rows = [
        ["lot", seen["lot"]],
        ["product", seen["product"] or "-"],
        ["equipment", seen["equipment"] or "-"],
        ["tag", seen["tag"]],
        ["phase", seen["phase"] or "-"],
        ["first outside (UTC)", brief(seen["first_out"])],
        ["detected (UTC)", brief(seen["detected"])],
        ["rule", seen["rule"] or "-"],
        ["distance then", f"{seen['magnitude']:.3g} SD (limit {seen['limit']:.3g})"],
        ["largest distance", f"{max(seen['magnitude'], latest['magnitude']):.3g} SD"],
        ["samples outside", outside],
        ["class", _class(found, latest)],
        ["impact", found["impact"] or "-"],
        ["model version", seen["model_version"] or "-"],
        ["state", word(found["state"], "DEVIATION_STATE").replace("_", " ")],
        ["by", found["actor"] or "-"],
        ["reason", found["reason"] or "-"],
    ]
    return rows + ([["corrective action", found["capa"]]] if found["capa"] else [])


def _class(found: dict[str, Any], latest: dict[str, Any]) -> str:
    """The severity that a person gave; else that nobody did, and what the rules propose."""
    given = word(found["severity"], "SEVERITY")
    if given != "unspecified":
        return given
    proposed = word(latest["proposed_severity"], "SEVERITY")
    told = "" if proposed == "unspecified" else f"; the rules propose {proposed}"
    return f"not classified{told}"


def _evidence(found: dict[str, Any], most: int) -> Sheet:
    """The latest samples, each beside what the golden run expects there and its limits."""
    points = (found["updated"] or found["detected"])["evidence"]
    shown = points[-most:] if most else []
    rows = [
        [
            brief(one["at"]),
            f"{one['value']:.5g}",
            f"{one['expected']:.5g}",
            f"{one['low']:.5g}",
            f"{one['high']:.5g}",
            "" if one["low"] <= one["value"] <= one["high"] else "outside",
        ]
        for one in shown
    ]
    unit = found["detected"]["unit"]
    title = f"Evidence{f' in {unit}' if unit else ''}, the latest {len(shown)} of {len(points)} samples (UTC)"
    return table(title, ["at", "value", "expected", "low", "high", "limits"], rows)


def _history(moments: list[dict[str, Any]]) -> Sheet:
    """What happened to it: when, what, who, why; and what the signature means, where that says more."""
    rows = [
        [
            brief(one["at"]),
            _PARTS.sub(" ", one["event"]).lower(),
            one["actor"] or "-",
            one["statement"] or "-",
            (one["meaning"] if one["meaning"] != one["statement"] else "") or "-",
        ]
        for one in moments
    ]
    return table("History (UTC, platform clock)", ["at", "what", "by", "why", "meaning"], rows)


def _follows(
    noun: str, names: tuple[str, ...], state: str, known: dict[str, Any], decisions: tuple[_Decision, ...]
) -> list[str]:
    """The decisions that may be taken now, as they are typed."""
    named = " ".join(map(shlex.quote, names))
    return [
        f"{PROGRAM} {noun} {one.verb} {named} {one.given}"
        for one in decisions
        if state in one.states and not known.get(one.unless)
    ]


def _may_follow(out: Console, follows: list[str]) -> None:
    out.print()
    for line in follows or ["nothing is left to be decided"]:
        out.print(f"next: {line}" if follows else line)


@CAPA.verb("show", "c-5", "c-5 --watch", "c-5 --json", watched=True)
@click.argument("capa", type=CAPA_ID)
@click.pass_obj
def show_capa(session: Session, capa: str) -> None:
    """Show CAPA: the change, what sites released, who did which step of change control, what is next."""
    answer = session.call(session.production.ListCapas, api.ListCapasRequest(capa=capa))
    row = next((one for one in answer.capas if one.proposed.capa == capa), None)
    if row is None:
        raise Missing(f"there is no corrective action {capa}")
    found = plain(row)
    follows = _follows("capa", (capa,), word(found["state"], "CAPA_STATE"), found, _ABOUT_CAPA)

    def people(out: Console) -> None:
        out.print(table(f"Corrective action {capa}", ["what", "value"], _proposed(found)))
        out.print()
        _released(out, found["proposed"]["evidence"])
        out.print()
        title = "Change control (UTC, platform clock)"
        out.print(table(title, ["step", "at", "by", "what", "meaning"], _control(found)))
        if found["refused"]:
            out.print("the limit stays, and research is not told; the deviation waits to be closed")
        _may_follow(out, follows)

    session.show({"capa": found, "next": follows}, people)


def _proposed(found: dict[str, Any]) -> list[list[str]]:
    """The change, why, and what it answers."""
    told = found["proposed"]
    kept = word(told["kept"], "LIMIT_KEPT")
    return [
        ["state", word(found["state"], "CAPA_STATE")],
        ["product", told["product"] or "-"],
        ["tag", told["tag"]],
        ["its limit", change(told["limit_before"], told["limit_after"], kept)],
        ["reason", told["reason"] or "-"],
        ["lot", told["lot"]],
        ["deviation", told["deviation"] or "-"],
        ["run", told["run"] or "-"],
    ]


def _released(out: Console, evidence: dict[str, Any] | None) -> None:
    """What each site released, and the estimates of those that released both numbers."""
    sites = evidence["sites"] if evidence else []
    rows = [
        [one["site"], _arm(one["exposed"]), _arm(one["comparators"]), "yes" if one["pooled"] else "no"]
        for one in sites
    ]
    title = "Released by the sites: complaints of patients who answered"
    out.print(table(title, ["site", "exposed", "comparators", "in the estimates"], rows))
    if evidence and sites:
        out.print(f"risk ratio: {_estimate(evidence['risk_ratio'])}")
        out.print(f"rate difference, cases a day: {_estimate(evidence['rate_difference'])}")


def _arm(arm: dict[str, Any] | None) -> str:
    """How many of how many; a number that is withheld is so named."""
    if arm is None:
        return "-"
    cases = "withheld" if arm["withheld"] else str(arm["cases"])
    return f"{cases} of {arm['patients']}" if arm["patients"] else "withheld"


def _estimate(told: dict[str, Any] | None) -> str:
    """The estimate with its 95 % interval, and why something of it is left out."""
    if told is None or told["value"] is None:
        return f"- ({lacking(told['reason'])})" if told and told["reason"] else "-"
    if told["lower"] is None or told["upper"] is None:
        return f"{told['value']:.3g} ({lacking(told['reason'])})"
    return f"{told['value']:.3g} ({told['lower']:.3g} to {told['upper']:.3g})"


def _control(found: dict[str, Any]) -> list[list[str]]:
    """Its steps in order: when, by whom, with which words; those to come say so."""
    happened = {one["event"]: one for one in found["history"]}
    behind = _BEHIND.get(word(found["state"], "CAPA_STATE"), 1)
    rows = []
    for number, (event, step) in enumerate((_REFUSAL if found["refused"] else _STEPS).items()):
        one, said = happened.get(event, {}), _told(found, event)
        by, what = one.get("actor") or said["actor"], said["what"] or one.get("statement", "")
        meaning = one.get("meaning") or said["meaning"]
        done = bool(one or by) or number < behind
        rows.append(
            [
                step,
                brief(one["at"]) if one else "on record" if done else "to come",
                by or "-",
                what if what != meaning and what else "-",
                meaning or "-",
            ]
        )
    return rows


def _told(found: dict[str, Any], event: str) -> dict[str, str]:
    """What the parts of the answer say of a step: they have more than its history, and for longer."""
    name, fields = _PART_OF.get(event, ("", ()))
    part = found.get(name)
    if not part:
        return {"actor": found["actor"] if event == "CapaApproved" else "", "what": "", "meaning": ""}
    said = (
        word(part[field], _ENUMS[field]).replace("_", " ") if field in _ENUMS else part[field]
        for field in fields
    )
    return {"actor": part["actor"], "what": "; ".join(filter(None, said)), "meaning": part["meaning"]}
