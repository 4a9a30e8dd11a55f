"""`waiting`: what waits for a person, of every loop, and the command by which it is done."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

import click
from google.protobuf.json_format import ParseDict
from rich.console import Console

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.cli.group import PROGRAM
from services.cli.nouns import WAITING
from services.cli.plain import iso
from services.cli.session import Session, Unreachable
from services.cli.tables import table
from services.kit import waiting
from services.kit.waiting import Listed, Waiting

#: Classes of a deviation as they are told; empty where nobody and no rule said it.
_CLASSES = ("", "minor", "major", "critical")
_MODULES = {"production": production, "rnd": rnd, "loops": loops, "exchange": exchange}


class Role(click.ParamType):
    """A role whose turn it may be; a site's is "site" and its name."""

    name = "role"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        of, _, site = " ".join(str(value).split()).partition(" ")
        if of not in waiting.ROLES or (site and of != waiting.SITE):
            known = ", ".join(waiting.ROLES)
            self.fail(f'{value!r} is no role: one of {known}, or "site hospital-a" for one site', param, ctx)
        return f"{of} {site}".strip()


@WAITING.verb(
    "list",
    "",
    "--kind judge-deviation --watch",
    "--role quality --json",
    '--role "site hospital-a"',
    watched=True,
)
@click.option("--kind", type=click.Choice(list(waiting.KINDS)), default=None, help="Only this kind of work.")
@click.option("--role", type=Role(), default=None, help="Only what is this role's turn.")
@click.pass_obj
def listed(session: Session, kind: str | None, role: str | None) -> None:
    """List what waits for a person, by kind of work, with the command that does it.

    In each kind the gravest first: at how many hospitals patients were exposed, then the class, then how far
    beyond its limit, then the oldest. What belongs together is one row of the table: deviations of one lot,
    lots of one product that are held for one reason; --json has each.

    Exit status 3 when a service does not answer: what the others keep is shown.
    """
    found, more, away = _found(session, kind or "", role or "")
    document: dict[str, Any] = {"waiting": [_plain(one) for one in found], "more": sorted(more), "away": away}

    def people(out: Console) -> None:
        rows = [_line([_plain(one) for one in group]) for group in waiting.groups(found)]
        columns = ["kind", "what", "of", "about", "how grave", "since (UTC)", "whose turn", "next"]
        out.print(table("Waiting", columns, rows))
        for name in document["more"]:
            out.print(f"{name.replace('-', ' ', 1)}: not all of the list was read, more may wait")
        for one in away:
            out.print(f"not here now: {one['service']}; {one['why']}")

    session.show(document, people)
    if away:
        raise click.exceptions.Exit(Unreachable.exit_code)


def _line(group: list[dict[str, Any]]) -> list[str]:
    """A row of the table: one thing, or how many belong together and how to see each."""
    one, several = group[0], len(group) > 1
    what = f"{one['id']} / {one['version']}" if one["kind"].endswith("set") else one["id"]
    since = min((each["since"] for each in group if each["since"]), default="-")
    return [
        one["kind"].replace("-", " "),
        f"{len(group)}, the gravest {what}" if several else what,
        one["of"],
        one["what"] or "-",
        _grave(one),
        since.partition(".")[0],
        one["role"],
        one["next"] if not several else f"{PROGRAM} {_EACH[one['kind']].format(of=shlex.quote(one['of']))}",
    ]


#: By kind, the command that shows each of several that belong together.
_EACH = {
    "judge-deviation": "lot show {of}",
    "classify-deviation": "lot show {of}",
    "close-deviation": "lot show {of}",
    "decide-lot": "waiting list --kind decide-lot --json",
}


def _grave(one: dict[str, Any]) -> str:
    """How grave it is, of what is known."""
    told = [f"hospitals {one['sites']}"] if one["sites"] else []
    told += [one["severity"]] if one["severity"] else []
    told += [f"{one['magnitude']:.3g} SD (limit {one['limit']:.3g})"] if one["limit"] else []
    return ", ".join(told) or "-"


def _found(session: Session, kind: str, role: str) -> tuple[list[Waiting], set[str], list[dict[str, str]]]:
    """The rows in order, the kinds of which there are more, and who did not answer and why."""
    rows: list[Waiting] = []
    runs: list[Any] = []
    more: set[str] = set()
    away: dict[str, str] = {}
    for one in waiting.chosen(kind, role):
        if one.service in away:
            continue  # one silence is waited for, not one for each list
        try:
            answer = _ask(session, one)
        except Unreachable as error:
            away[one.service] = error.message
            continue
        runs += answer.runs if one.weighs else ()
        rows += [row for each in getattr(answer, one.part) for row in one.rows(each)]
        more |= set(one.kinds) if answer.next_page_token else set()
    if waiting.OVERDUE in waiting.kinds_of(kind, role):
        rows += waiting.overdue(_boards(session, away))
    fitting = [row for row in rows if waiting.fits(row, kind, role)]
    shown = waiting.in_order(waiting.exposed(fitting, runs))
    more &= waiting.kinds_of(kind, role)
    return shown, more, [{"service": name, "why": why} for name, why in away.items()]


def _ask(session: Session, one: Listed) -> Any:
    request = getattr(_MODULES[one.service], f"{one.method}Request")()
    stub: Any = getattr(session, one.service)
    return session.call(getattr(stub, one.method), ParseDict(one.asked(), request))


def _boards(session: Session, away: dict[str, str]) -> dict[str, Iterable[Any]]:
    """The boards of the sites that answer; those that do not are added to `away`."""
    found: dict[str, Iterable[Any]] = {}
    for site, process in session.endpoints.sites.items():
        try:
            stub = session.clinical_at(site)
            found[site] = session.call(stub.GetSiteBoard, clinical.GetSiteBoardRequest(site=site)).runs
        except Unreachable as error:
            away[process] = error.message
    return found


def _plain(one: Waiting) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "role": one.role,
        "id": one.id,
        "version": one.version,
        "of": one.of,
        "what": _what(one),
        "since": iso(one.since) if one.since else None,
        "lacks": list(one.lacks),
        "people": one.people,
        "withheld": one.withheld,
        "sites": one.sites,
        "severity": _CLASSES[one.severity],
        "magnitude": one.magnitude,
        "limit": one.limit,
        "group": one.belongs,
        "next": next_step(one),
    }


def _what(one: Waiting) -> str:
    """What a row is about, in words."""
    if one.kind == waiting.OVERDUE:
        told = "withheld (protects a small group)" if one.withheld else f"{one.people} patients"
        return f"answers overdue: {told}"
    return f"{one.what}, lacks {' and '.join(one.lacks)}" if one.lacks else one.what


#: By kind, the command that does it. What a person has to say is in capitals.
_NEXT = {
    "judge-deviation": "deviation confirm {of} {id} --reason WHY",
    "classify-deviation": "deviation classify {of} {id} --severity CLASS --impact TEXT",
    "close-deviation": "deviation close {of} {id} --reason WHY",
    "decide-lot": "lot show {id}",
    "evaluate-hazard": "run evaluate {id} --class CLASS --text TEXT --instruction TEXT --meaning MEANING",
    "approve-capa": "capa approve {id} --meaning MEANING",
    "validate-capa": "capa validate {id} --record RECORD --statement TEXT",
    "file-capa": "capa file {id} --category CATEGORY --statement TEXT",
    "check-capa": "capa check {id} --outcome OUTCOME --statement TEXT",
    "decide-transfer": "transfer show {id}",
    "review-set": "set review {id} --version {version} --meaning MEANING",
    "release-set": "set release {id} --version {version} --plant PLANT --meaning MEANING",
    "take-up-finding": "finding take-up {id}",
    "approve-study": "study approve {id} --site {of} --meaning MEANING",
    "overdue-plans": "plan list {of} --open",
}
_STEPS = {
    "validation": "transfer validate {id} --version {version} --record RECORD --statement TEXT",
    "filing": "transfer file {id} --version {version} --category CATEGORY --statement TEXT",
}


def next_step(one: Waiting) -> str:
    """The command line that does it, or shows what is to be chosen from."""
    line = _STEPS[one.lacks[0]] if one.lacks else _NEXT.get(one.kind, "transfer show {id}")
    told = line.format(id=shlex.quote(one.id), of=shlex.quote(one.of), version=one.version)
    return f"{PROGRAM} {told}"
