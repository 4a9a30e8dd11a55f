"""`transfer`, and what a person does about one, from proposal to effective recipe; `line list`."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as api
from services.cli.capas import CATEGORIES
from services.cli.nouns import LINE, TRANSFER
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id

_STATES = {
    "all": api.TRANSFER_STATE_UNSPECIFIED,
    "adapted": api.TRANSFER_STATE_ADAPTED,
    "refused": api.TRANSFER_STATE_REFUSED,
    "proposed": api.TRANSFER_STATE_PROPOSED,
    "in-change-control": api.TRANSFER_STATE_IN_CHANGE_CONTROL,
    "effective": api.TRANSFER_STATE_EFFECTIVE,
    "concluded": api.TRANSFER_STATE_CONCLUDED,
    "ended": api.TRANSFER_STATE_ENDED,
}


def _state(item: dict[str, Any]) -> str:
    return word(item["state"], "TRANSFER_STATE").replace("_", " ")


def _next(item: dict[str, Any]) -> str:
    """What the transfer waits for, or why it went no further."""
    state, working = _state(item), item["working_version"]
    if state == "proposed":
        said = f"sign {item['proposed']['proposal']}"
    elif state == "in change control":
        lacking = {"validated": "validation", "filing": "filing assessment"}
        said = ", ".join(name for field, name in lacking.items() if item[field] is None)
    elif state == "refused":
        said = "; ".join(reason["rule"] for reason in item["refused"]["reasons"])
    elif state == "ended":
        said = item["ended"]["reason"]
    else:
        said = {"adapted": "the twin's advice", "effective": "a first lot"}.get(state, "-")
    if working and working != item["version"]:
        said = f"{said} (lots are made by version {working})"
    return said


@TRANSFER.verb("list", "", "--state proposed --plant plant-3", watched=True)
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.option("--plant", default="", help="Only to this plant.")
@click.pass_obj
def transfers(session: Session, state: str, plant: str) -> None:
    """List transfers of parameter sets to plants, newest first."""
    request = api.ListTransfersRequest(state=_STATES[state], plant=plant)
    pages = session.pages(session.production.ListTransfers, request)
    found = [plain(item) for page in pages for item in page.transfers]

    def people(out: Console) -> None:
        rows = [
            [
                item["transfer"],
                str(item["version"]),
                item["adapted"]["line"] if item["adapted"] else "-",
                _state(item),
                _next(item),
                item["at"],
            ]
            for item in found
        ]
        columns = ["transfer", "version", "line", "state", "waits for", "since"]
        out.print(table("Transfers", columns, rows))

    session.show({"transfers": found}, people)


@TRANSFER.verb("show", "transfer:set-1/plant-3", watched=True)
@click.argument("transfer", metavar="CASE")
@click.pass_obj
def transfer(session: Session, transfer: str) -> None:
    """Show the transfer CASE: gap table, predictions, set-points and history."""
    answer = session.call(session.production.GetTransfer, api.GetTransferRequest(transfer=transfer))
    shown = plain(answer)

    def people(out: Console) -> None:
        item = shown["transfer"]
        out.print(f"{item['transfer']}  version {item['version']}  {_state(item)}  {_next(item)}")
        if item["refused"]:
            rows = [[one["rule"], one["field"], one["statement"]] for one in item["refused"]["reasons"]]
            out.print(table("Refused", ["rule", "field", "statement"], rows))
        if item["adapted"]:
            rows = [_gap(one) for one in item["adapted"]["gaps"]]
            columns = ["quantity", "unit", "source", "target", "ratio", "validated"]
            out.print(table(f"Gap table, line {item['adapted']['line']}", columns, rows))
            if item["adapted"]["not_modelled"]:
                names = ", ".join(item["adapted"]["not_modelled"])
                out.print(f"not modelled, carried over as is: {names}")
            told = (item["proposed"] or item["adapted"])["predictions"]
            columns = ["attribute", "unit", "source", "target", "calibrated by", "specification"]
            out.print(table("Predictions", columns, [_prediction(one) for one in told]))
            rows = _set_points(shown["adapted"], shown["proposed"], shown["recipe"])
            columns = ["parameter", "unit", "adapted", "proposed", "recipe"]
            out.print(table("Set-points", columns, rows))
        if item["outcome"]:
            rows = [_outcome(one) for one in item["outcome"]["outcomes"]]
            out.print(
                table(f"Lot {item['outcome']['lot']}", ["attribute", "unit", "expected", "found"], rows)
            )
        rows = [
            [one["at"], str(one["version"]), one["event"], one["actor"], one["statement"]]
            for one in shown["history"]
        ]
        out.print(table("History", ["at", "version", "event", "by", "what was said"], rows))

    session.show(shown, people)


def _gap(one: dict[str, Any]) -> list[str]:
    validated = f"{one['low']:.4g} to {one['high']:.4g}" if one["low"] is not None else "-"
    mark = "" if one["inside"] else " (outside)"
    numbers = [f"{one[name]:.4g}" for name in ("source", "target", "ratio")]
    return [one["quantity"], one["unit"], *numbers, f"{validated}{mark}"]


def _expected(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.4g} ({estimate['lower']:.4g} to {estimate['upper']:.4g})"


def _prediction(one: dict[str, Any]) -> list[str]:
    ends = ["" if one[side] is None else f"{one[side]:.4g}" for side in ("low", "high")]
    calibrated = f"{one['calibrated_by']:+.3g}" if one["calibrated_by"] else "-"
    expected = [_expected(one[scale]) for scale in ("source", "target")]
    return [one["attribute"], one["unit"], *expected, calibrated, " to ".join(ends)]


def _outcome(one: dict[str, Any]) -> list[str]:
    return [one["attribute"], one["unit"], _expected(one["predicted"]), f"{one['actual']:.4g}"]


def _set_points(*recipes: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each parameter, with its value in each recipe."""
    values = [{one["parameter"]: f"{one['value']:.5g}" for one in recipe} for recipe in recipes]
    units = {one["parameter"]: one["unit"] for recipe in recipes for one in recipe}
    return [[name, unit, *(value.get(name, "-") for value in values)] for name, unit in units.items()]


@LINE.verb("list", "", "--plant plant-3", watched=True)
@click.option("--plant", default="", help="Only of this plant.")
@click.pass_obj
def lines(session: Session, plant: str) -> None:
    """List the lines of the plants, with what their vessels can do."""
    pages = session.pages(session.production.ListLines, api.ListLinesRequest(plant=plant))
    found = [plain(item) for page in pages for item in page.lines]

    def people(out: Console) -> None:
        rows = [
            [
                item["plant"],
                item["line"],
                item["equipment"],
                ", ".join(item["products"]),
                f"{item['detail']['liquid_m3']:g} of {item['detail']['volume_m3']:g}",
                f"{item['detail']['stirrer_min_per_s']:g} to {item['detail']['stirrer_max_per_s']:g}",
                f"{item['detail']['gas_max_m3_per_s']:g}",
            ]
            for item in found
        ]
        columns = ["plant", "line", "equipment", "products", "m3", "stirrer 1/s", "gas m3/s"]
        out.print(table("Lines", columns, rows))

    session.show({"lines": found}, people)


@TRANSFER.verb(
    "sign",
    'transfer:set-1/plant-3 --proposal p-2 --accept --meaning "I have read it"',
    'transfer:set-1/plant-3 --proposal p-2 --refuse --reason "too much gas" --meaning "I have read it"',
)
@click.argument("transfer", metavar="CASE")
@click.option("--proposal", required=True, help="The proposal that you decide on.")
@click.option(
    "--accept/--refuse", "accepted", default=None, help="Take its set-points, or keep the adapted ones."
)
@click.option("--reason", default="", help="Why; needed where you refuse.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def sign_transfer(
    session: Session, transfer: str, proposal: str, accepted: bool | None, reason: str, meaning: str
) -> None:
    """Decide on the set-points that are proposed for the transfer CASE; this opens change control."""
    if accepted is None:
        raise click.UsageError("say which way you decide: --accept, or --refuse with a --reason")
    request = api.DecideTransferRequest(
        request_id=new_id(),
        transfer=transfer,
        proposal=proposal,
        accepted=accepted,
        reason=reason,
        meaning=meaning,
    )
    answer = session.call(session.production.DecideTransfer, request)
    decided = "accepted" if accepted else "refused, the adapted recipe stands"
    after = "'pharmaloop transfer validate' and 'pharmaloop transfer file'"
    session.show(
        {"transfer": transfer, "accepted": accepted, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"{decided}: {transfer} is effective after {after}"),
    )


@TRANSFER.verb(
    "validate",
    'transfer:set-1/plant-3 --version 1 --record PPQ-1 --statement "three runs in range"',
    signed="The validation of this recipe is on record as I say here.",
)
@click.argument("transfer", metavar="CASE")
@click.option("--version", type=int, required=True, help="Version of the set, which must be the newest.")
@click.option("--record", required=True, help="Where the validation is on record.")
@click.option("--statement", required=True, help="What was shown.")
@click.pass_obj
def validate_recipe(session: Session, transfer: str, version: int, record: str, statement: str) -> None:
    """Record that the recipe of the transfer CASE is validated. Another person assesses its filing."""
    request = api.RecordRecipeValidationRequest(
        request_id=new_id(), transfer=transfer, version=version, record=record, statement=statement
    )
    answer = session.call(session.production.RecordRecipeValidation, request)
    session.show(
        {"transfer": transfer, "record": record, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"validated: {transfer} is effective as soon as its filing is assessed"),
    )


@TRANSFER.verb(
    "file",
    'transfer:set-1/plant-3 --version 1 --category not-reported --statement "inside the filed ranges"',
    signed="I have assessed what this recipe needs and stand for it.",
)
@click.argument("transfer", metavar="CASE")
@click.option("--version", type=int, required=True, help="Version of the set, which must be the newest.")
@click.option("--category", type=click.Choice(list(CATEGORIES)), required=True, help="What the change needs.")
@click.option("--reference", default="", help="The authority's approval, or the notification.")
@click.option("--statement", required=True, help="Why.")
@click.pass_obj
def file_recipe(
    session: Session, transfer: str, version: int, category: str, reference: str, statement: str
) -> None:
    """Record whether the recipe of the transfer CASE must be filed. Another person records its validation."""
    request = api.RecordRecipeFilingRequest(
        request_id=new_id(),
        transfer=transfer,
        version=version,
        category=CATEGORIES[category],
        reference=reference,
        statement=statement,
    )
    answer = session.call(session.production.RecordRecipeFiling, request)
    session.show(
        {"transfer": transfer, "category": category, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"assessed: {transfer} is effective as soon as its recipe is validated"),
    )
