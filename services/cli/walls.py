"""`wall`, `chart` and lists of lots: what a plant's quality shows, run by run and tag by tag."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as api
from services.cli.nouns import CHART, LOT, WALL
from services.cli.plain import plain, word
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table

_POINTS = 60
_OF_A_POINT = ("value", "band_low", "mean", "band_high", "limit_low", "limit_high", "ratio")
_STATES = {word(name, "LOT_STATE"): number for name, number in api.LotState.items() if number}


@WALL.verb("list", "", "--plant plant-1 --watch", watched=True)
@click.option("--plant", default="", help="Only of this plant.")
@click.option("--line", default="", help="Only of this line.")
@click.pass_obj
def wall(session: Session, plant: str, line: str) -> None:
    """Show the quality wall: of each piece of equipment its latest run, and how near it is to its limits."""
    pages = session.pages(session.production.ListWall, api.ListWallRequest(plant=plant, line=line))
    found = [plain(item) for page in pages for item in page.rows]
    session.show({"rows": found}, lambda out: out.print(_wall(found)))


def _wall(rows: list[dict[str, Any]]) -> Any:
    shown = []
    for one in rows:
        worst = one["worst"] or {}
        shown.append(
            [
                word(one["state"], "WALL_STATE"),
                one["equipment"],
                one["lot"] or "-",
                _run(one),
                f"{worst['ratio']:.0%} of the limit" if worst.get("tag") else "-",
                f"{worst['tag']}: {worst['rule']}" if worst.get("tag") else "-",
                str(len(one["deviations"])),
                one["latest_reading"] or "-",
            ]
        )
    columns = ["state", "equipment", "lot", "run", "worst", "which", "deviations", "latest reading"]
    return table("Quality wall", columns, shown)


def _run(row: dict[str, Any]) -> str:
    """Whether the run goes on, and is heard of."""
    if row["silent"]:
        return "silent"
    return "runs" if row["running"] else word(row["lot_state"], "LOT_STATE")


@CHART.verb(
    "show", "maker-1/item/granulate/G-0041", "maker-1/item/granulate/G-0041 DryerTemp --watch", watched=True
)
@click.argument("lot", type=LOT_KEY)
@click.argument("tag", required=False, default="")
@click.option("--points", type=click.IntRange(20, 5000), default=_POINTS, help="At most so many points.")
@click.pass_obj
def chart(session: Session, lot: str, tag: str, points: int) -> None:
    """Show the readings of TAG of LOT (the worst one when left out) beside what good runs do."""
    request = api.GetChartRequest(lot=lot, tag=tag, most_points=points)
    found = plain(session.call(session.production.GetChart, request))

    def people(out: Console) -> None:
        rows = [
            [f"{point['seconds']:.0f}", *(_number(point, name) for name in _OF_A_POINT)]
            for point in found["points"]
        ]
        title = f"{found['tag']} of {lot}, {found['unit']}; model {found['model_version'] or '-'}"
        out.print(table(title, ["s", *(name.replace("_", " ") for name in _OF_A_POINT)], rows))
        for one in found["deviations"]:
            seen = one["detected"]
            state = word(one["state"], "DEVIATION_STATE")
            out.print(f"deviation  {seen['deviation']}  {state}  {one['reason']}")

    session.show(found, people)


def _number(point: dict[str, Any], name: str) -> str:
    value = point.get(name)
    return "-" if value is None else f"{value:.4g}"


@LOT.verb("list", "", "--state held --watch", "--product maker-1/item/granulate --prefix G-00", watched=True)
@click.option("--state", type=click.Choice(list(_STATES)), help="Only of this state.")
@click.option("--product", default="", help="Only of this product: owner/scheme/item.")
@click.option("--prefix", default="", help="Only lots whose own part begins so.")
@click.option("--most", type=click.IntRange(1, 1000), default=100, show_default=True, help="Lots at most.")
@click.option("--after", default="", metavar="TOKEN", help="Go on behind a list, as it says at its end.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever --most says.")
@click.pass_obj
def lots(
    session: Session, state: str | None, product: str, prefix: str, most: int, after: str, everything: bool
) -> None:
    """List the lots of the plants, newest first; where there are more, the list says how to go on."""
    request = api.ListLotsRequest(product=product, prefix=prefix, page_token=after)
    request.state = _STATES.get(state or "", 0)  # type: ignore[assignment]
    pages = list(session.pages(session.production.ListLots, request, 0 if everything else most))
    found = [plain(item) for page in pages for item in page.lots]
    further = pages[-1].next_page_token

    def people(out: Console) -> None:
        rows = [
            [
                one["lot"],
                word(one["state"], "LOT_STATE"),
                one["equipment"],
                one["started"] or "-",
                str(len(one["deviations"])),
                one["reason"] or "-",
            ]
            for one in found
        ]
        out.print(table("Lots", ["lot", "state", "equipment", "started", "deviations", "why"], rows))
        if further:
            out.print(f"\nthere are more: --after '{further}' goes on, --all shows every one")

    session.show({"lots": found, "after": further or None}, people)
