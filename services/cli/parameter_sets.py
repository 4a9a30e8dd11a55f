"""`set`: parameter sets, and what people sign of one: draft, review, release, withdrawal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pharmaloop.rnd.v1 import service_pb2 as api
from services.cli.nouns import SET
from services.cli.plain import plain, word
from services.cli.requests import FILE, read_request
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id

_STATES = {
    "all": api.PARAMETER_SET_STATE_UNSPECIFIED,
    "draft": api.PARAMETER_SET_STATE_DRAFT,
    "reviewed": api.PARAMETER_SET_STATE_REVIEWED,
    "released": api.PARAMETER_SET_STATE_RELEASED,
    "superseded": api.PARAMETER_SET_STATE_SUPERSEDED,
    "withdrawn": api.PARAMETER_SET_STATE_WITHDRAWN,
}
_VERSION = click.IntRange(min=1)


def _state(item: dict[str, Any]) -> str:
    return word(item["state"], "PARAMETER_SET_STATE")


def _plants(item: dict[str, Any]) -> str:
    """The plants that work by the version."""
    if _state(item) == "withdrawn":
        return "-"
    return ", ".join(one["plant"] for one in item["releases"] if not one["superseded_by"]) or "-"


@SET.verb("list", "", "--state released --product product-1", watched=True)
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.option("--product", default="", help="Only of this product.")
@click.pass_obj
def parameter_sets(session: Session, state: str, product: str) -> None:
    """List versions of parameter sets, the latest change first."""
    request = api.ListParameterSetsRequest(state=_STATES[state], product=product)
    pages = session.pages(session.rnd.ListParameterSets, request)
    found = [plain(item) for page in pages for item in page.versions]

    def people(out: Console) -> None:
        rows = [
            [
                item["set"],
                str(item["version"]),
                item["product"],
                _state(item),
                _plants(item),
                item["drafter"],
                item["reviewer"] or "-",
                ", ".join(one["capa"] for one in item["reviews"]) or "-",
            ]
            for item in found
        ]
        columns = ["set", "version", "product", "state", "plants", "drafted by", "reviewed by", "look at"]
        out.print(table("Parameter sets", columns, rows))

    session.show({"versions": found}, people)


@SET.verb("show", "set-1", "set-1 --version 2", watched=True)
@click.argument("set_", metavar="SET")
@click.option("--version", type=_VERSION, default=None, help="This version; the newest when left out.")
@click.pass_obj
def parameter_set(session: Session, set_: str, version: int | None) -> None:
    """Show a version of SET with what it says."""
    request = api.GetParameterSetRequest(set=set_, version=version or 0)
    found = plain(session.call(session.rnd.GetParameterSet, request))

    def people(out: Console) -> None:
        item, content = found["version"], found["content"]
        out.print(f"{item['set']} version {item['version']}, {_state(item)}: {content['statement']}")
        out.print(f"product {item['product']}, trial {item['trial'] or '-'}, plants {_plants(item)}")
        for what, who, at in _signatures(item):
            out.print(f"{what} by {who}, {at}")
        for one in item["reviews"]:
            out.print(f"to be looked at: {one['reason']}")
        out.print(table("Quality attributes", ["attribute", "limits"], _limits(content)))
        columns = ["parameter", "set-point", "normal", "proven"]
        out.print(table("Process parameters", columns, _ranges(content)))

    session.show(found, people)


def _signatures(item: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was done, by whom and when; nothing for what nobody did."""
    signed = [("drafted", item["drafter"], item["drafted"]), ("reviewed", item["reviewer"], item["reviewed"])]
    signed += [(f"released to {one['plant']}", one["actor"], one["at"]) for one in item["releases"]]
    signed.append(("withdrawn", item["withdrawn_by"], item["withdrawn"]))
    return [one for one in signed if one[1]]


def _limits(content: dict[str, Any]) -> list[list[str]]:
    return [[one["attribute"], _range(one["limits"])] for one in content["attributes"]]


def _ranges(content: dict[str, Any]) -> list[list[str]]:
    return [
        [
            one["parameter"],
            f"{one['set_point']:g} {one['normal']['unit']}",
            _range(one["normal"]),
            _range(one["proven"]),
        ]
        for one in content["parameters"]
    ]


def _range(limits: dict[str, Any]) -> str:
    low, high = limits["low"], limits["high"]
    if low is None or high is None:
        said = f"from {low:g}" if low is not None else f"up to {high:g}"
    else:
        said = f"{low:g} to {high:g}"
    return f"{said} {limits['unit']}"


@SET.verb("diff", "set-1", "set-1 --version 3 --from 1", watched=True)
@click.argument("set_", metavar="SET")
@click.option("--version", type=_VERSION, default=None, help="This version; the newest when left out.")
@click.option("--from", "before", type=_VERSION, default=None, help="Beside this one, not the one before.")
@click.pass_obj
def diff(session: Session, set_: str, version: int | None, before: int | None) -> None:
    """Show what differs between a version of SET and the one before, path by path."""
    request = api.GetParameterSetDiffRequest(set=set_, from_version=before or 0, to_version=version or 0)
    found = plain(session.call(session.rnd.GetParameterSetDiff, request))

    def people(out: Console) -> None:
        rows = [
            [one["path"], *("-" if one[side] is None else one[side] for side in ("before", "after"))]
            for one in found["differences"]
        ]
        title = f"{set_}: version {found['from_version']} to {found['to_version']}"
        out.print(table(title, ["path", "before", "after"], rows))

    session.show(found, people)


@SET.verb("draft", "draft.json")
@click.argument("file", type=FILE)
@click.pass_obj
def draft_parameter_set(session: Session, file: Path) -> None:
    """Draft the parameter set in FILE: JSON with "set" and "content", as in the contract."""
    request = read_request(file, api.DraftParameterSetRequest)
    answer = session.call(session.rnd.DraftParameterSet, request)
    document = {"set": request.set, **plain(answer)}
    session.show(
        document,
        lambda out: out.print(
            f"drafted: {request.set} version {answer.version}; another person signs 'pharmaloop set review'"
        ),
    )


@SET.verb("review", 'set-1 --version 1 --meaning "I have checked it" --actor ben')
@click.argument("set_", metavar="SET")
@click.option("--version", type=_VERSION, required=True, help="The version.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def review_parameter_set(session: Session, set_: str, version: int, meaning: str) -> None:
    """Sign the review of a draft of SET."""
    request = api.ReviewParameterSetRequest(request_id=new_id(), set=set_, version=version, meaning=meaning)
    answer = session.call(session.rnd.ReviewParameterSet, request)
    session.show(
        {"set": set_, "version": version, "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"reviewed: {set_} version {version}; another person signs 'pharmaloop set release'"
        ),
    )


@SET.verb("release", 'set-1 --version 1 --plant plant-3 --meaning "for use" --actor cleo')
@click.argument("set_", metavar="SET")
@click.option("--version", type=_VERSION, required=True, help="The version.")
@click.option("--plant", "plants", multiple=True, required=True, help="A plant; may be repeated.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.option("--purpose", default="", help="What the plants may use it for; to make the product if empty.")
@click.pass_obj
def release_parameter_set(
    session: Session, set_: str, version: int, plants: tuple[str, ...], meaning: str, purpose: str
) -> None:
    """Sign the release of a reviewed version of SET; each plant gets it sealed to its own key."""
    request = api.ReleaseParameterSetRequest(
        request_id=new_id(), set=set_, version=version, plants=plants, meaning=meaning, purpose=purpose
    )
    answer = session.call(session.rnd.ReleaseParameterSet, request)
    session.show(
        {"set": set_, "version": version, "plants": list(plants), "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"released: {set_} version {version} to {', '.join(plants)}; see 'pharmaloop transfer list'"
        ),
    )


@SET.verb(
    "withdraw",
    'set-1 --version 1 --reason "the feed is too fast"',
    signed="I withdraw this version: no plant may work by it any more.",
)
@click.argument("set_", metavar="SET")
@click.option("--version", type=_VERSION, required=True, help="The version.")
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def withdraw_parameter_set(session: Session, set_: str, version: int, reason: str) -> None:
    """Withdraw a version of SET from every plant."""
    request = api.WithdrawParameterSetRequest(request_id=new_id(), set=set_, version=version, reason=reason)
    answer = session.call(session.rnd.WithdrawParameterSet, request)
    session.show(
        {"set": set_, "version": version, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"withdrawn: {set_} version {version}; no plant may use it"),
    )
