"""The quality wall, and the chart of one tag behind each of its rows."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from pharmaloop.production.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.drawing.wall import bar, sparkline
from services.portal.keys import LOT
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.several import every

router = APIRouter()
_POINTS = 500
_TABLE = 60
#: What needs somebody stands first; the rest in order of its equipment.
_ORDER = {api.WALL_STATE_ABNORMAL: 0, api.WALL_STATE_SILENT: 0, api.WALL_STATE_WATCH: 1}
_LIVE = (
    "type:LotStarted",
    "type:LotCompleted",
    "type:LotHeld",
    "type:DeviationDetected",
    "type:DeviationConfirmed",
    "type:DeviationRejected",
    "type:DeviationClosed",
)


@router.get("/wall")
async def wall(request: Request, plant: str = "", line: str = "") -> Response:
    """A row for each piece of equipment and its latest run: what needs somebody first."""
    backend: Backend = request.app.state.backend
    asked = every(backend, "production", "ListWall", "rows", plant=plant.strip(), line=line.strip())
    found, missing = await parts(rows=asked)
    rows = sorted(found["rows"][0] if found["rows"] else [], key=lambda row: _ORDER.get(row.state, 2))
    language: Language = request.state.language
    values = {
        "rows": [(row, *_drawn(row, language)) for row in rows],
        "calling": sum(_ORDER.get(row.state) == 0 for row in rows),
        "near": sum(row.state == api.WALL_STATE_WATCH for row in rows),
        "of_plant": plant,
        "line": line,
        "missing": missing,
    }
    return page(request, "wall.html", values, live=_LIVE)


def _drawn(row: api.WallRow, language: Language) -> tuple[Markup, Markup]:
    """The bar and the sparkline of a row."""
    if not row.HasField("worst"):
        return Markup(""), Markup("")
    share = language.percent(row.worst.ratio, 0)
    now = language.say("%(tag)s: %(share)s of its limit", tag=row.worst.tag, share=share)
    over = language.say(
        "Over the run: at most %(share)s of the limit",
        share=language.percent(max(row.line.ratios, default=0.0), 0),
    )
    return bar(row.worst.ratio, now), sparkline(row.line.seconds, row.line.ratios, over)


@router.get(LOT + "/chart/{tag:path}")
async def chart(request: Request, key: str, tag: str) -> Response:
    """One tag of a lot's run beside its golden run."""
    backend: Backend = request.app.state.backend
    found = await backend.ask("production", "GetChart", lot=key, tag=tag, most_points=_POINTS)
    language: Language = request.state.language
    values = {
        "key": key,
        "found": found,
        "data": _data(found, language),
        "table": _thinned(found),
        "standing": next((one for one in found.standings if one.tag == found.tag), None),
        "missing": [],
    }
    return page(request, "chart.html", values, live=(key,))


def _thinned(found: api.GetChartResponse) -> list[Any]:
    """Points for the table: evenly chosen, with every one beyond the limit while there is room."""
    points = list(found.points)
    step = max(1, -(-len(points) // _TABLE))
    beyond = [n for n, point in enumerate(points) if point.HasField("ratio") and point.ratio > 1]
    shown = set(range(0, len(points), step)) | set(beyond[:_TABLE])
    return [points[n] for n in sorted(shown)]


def _data(found: api.GetChartResponse, language: Language) -> Markup:
    """What the script draws, as JSON that may stand in a page."""
    say = language.say

    def line(name: str) -> list[list[float | None]]:
        return [
            [point.seconds / 3600, getattr(point, name) if point.HasField(name) else None]
            for point in found.points
        ]

    began = found.start.ToMilliseconds()
    marks = [
        {
            "from": (one.detected.first_out.ToMilliseconds() - began) / 3_600_000,
            "at": (one.detected.detected.ToMilliseconds() - began) / 3_600_000,
        }
        for one in found.deviations
        if found.HasField("start")
    ]
    drawn = {
        "lines": {name: line(name) for name in ("value", "mean", "set_point", "limit_low", "limit_high")},
        "band": {"low": line("band_low"), "high": line("band_high")},
        "marks": marks,
        "unit": found.unit,
        "names": {
            "value": found.tag,
            "mean": say("Golden run"),
            "set_point": say("Set-point"),
            "limit_low": say("Lower limit"),
            "limit_high": say("Upper limit"),
            "band": say("Golden band"),
            "detected": say("Deviation detected"),
            "hours": say("Hours since the start"),
        },
    }
    text = json.dumps(drawn, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
