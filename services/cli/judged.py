"""`deviation show` and `capa show`: one thing that a person judges, what it rests on, and what comes next."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as api
from services.cli.beginnings import DEVIATION_ID
from services.cli.group import PROGRAM
from services.cli.nouns import DEVIATION
from services.cli.plain import brief, plain, word
from services.cli.session import LOT_KEY, Missing, Session
from services.cli.tables import Sheet, table

#: Samples of the evidence that people are shown where they ask for no other number; programs get all.
_SAMPLES = 10
#: Where the words of an event's name part.
_PARTS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_UNJUDGED = ("open", "under_investigation")
_REAL = ("confirmed", "capa_required")
#: By verb of a decision about a deviation: the states in which it may be taken, and what it is given.
_OF_DEVIATION = {
    "confirm": (_UNJUDGED, "--reason REASON"),
    "reject": (_UNJUDGED, "--reason REASON"),
    "investigate": (("open",), "--reason REASON"),
    "classify": ((*_UNJUDGED, *_REAL), "--severity SEVERITY --impact TEXT"),
    "close": (_REAL, "--reason REASON"),
}


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
    follows = _after_deviation(found)

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


def _after_deviation(found: dict[str, Any]) -> list[str]:
    """The decisions that may be taken now; what is not classified cannot be closed."""
    state = word(found["state"], "DEVIATION_STATE")
    classified = word(found["severity"], "SEVERITY") != "unspecified"
    named = " ".join(shlex.quote(found["detected"][name]) for name in ("lot", "deviation"))
    return [
        f"{PROGRAM} deviation {verb} {named} {given}"
        for verb, (states, given) in _OF_DEVIATION.items()
        if state in states and (verb != "close" or classified)
    ]


def _may_follow(out: Console, follows: list[str]) -> None:
    out.print()
    for line in follows or ["nothing is left to be decided"]:
        out.print(f"next: {line}" if follows else line)
