"""Makes Grafana's JSON of a board, with the builders of Grafana's foundation SDK (for Grafana 11.6).

Grey unless something is wrong: values keep the colour of text until the bound
of an alert is passed, so that what is coloured is what somebody is woken for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as grafana
from grafana_foundation_sdk.models import prometheus as asked

from deploy.grafana.alerts import levels
from deploy.grafana.links import DOCS, PORTAL, runbook
from deploy.grafana.model import Board, Choice, Link, Panel, Query, Written

AnyPanel = stat.Panel | bargauge.Panel | timeseries.Panel | table.Panel
#: Grafana divides a dashboard into so many columns.
COLUMNS = 24
NO_DATA = "no data"
_TAG = "pharmaloop"
_SOURCE = grafana.DataSourceRef(type_val="prometheus", uid="${datasource}")
_PLAIN, _TICKET, _PAGE = "text", "orange", "red"


def texts(boards: tuple[Board, ...], portal: str = PORTAL, docs: str = DOCS) -> dict[str, str]:
    """The JSON of each dashboard by its uid, for an installation whose portal and docs stand there."""
    return {board.uid: text(board, portal, docs) for board in boards}


def text(board: Board, portal: str = PORTAL, docs: str = DOCS) -> str:
    """The JSON of a dashboard."""
    made = _dashboard(board, portal, docs).build()
    return json.dumps(made, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def all_links(panel: Panel) -> list[Link]:
    """Where a panel leads, the runbooks of its alerts last."""
    return [*panel.links, *map(runbook, panel.alerts)]


def _dashboard(board: Board, portal: str, docs: str) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.tells)
        .tags([_TAG])
        .readonly()
        .tooltip(grafana.DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .links([_others(), *map(_link, board.links)])
        .variables(list(_variables(board, portal, docs)))
    )
    number, y = 1, 0
    for row in board.rows:
        made.with_row(dashboard.Row(row.title).id(number).grid_pos(grafana.GridPos(h=1, w=COLUMNS, x=0, y=y)))
        number, y, x, line = number + 1, y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, line = 0, y + line, 0
            place = grafana.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            made.with_panel(_panel(panel).id(number).grid_pos(place))
            number, x, line = number + 1, x + panel.width, max(line, panel.height)
        y += line
    return made


def _others() -> dashboard.DashboardLink:
    """The way to all other dashboards of the platform."""
    return (
        dashboard.DashboardLink("Dashboards")
        .type(grafana.DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .as_dropdown(True)
        .keep_time(True)
    )


def _link(link: Link) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(link.title)
        .type(grafana.DashboardLinkType.LINK)
        .url(link.url)
        .target_blank(not link.url.startswith("/d/"))
    )


def _variables(
    board: Board, portal: str, docs: str
) -> Iterator[
    dashboard.DatasourceVariable
    | dashboard.QueryVariable
    | dashboard.TextBoxVariable
    | dashboard.ConstantVariable
]:
    yield dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    for one in board.variables:
        if isinstance(one, Written):
            yield (
                dashboard.TextBoxVariable(one.name).label(one.label).description(one.tells).default_value("")
            )
        else:
            yield _choice(one)
    yield dashboard.ConstantVariable("portal").label("Portal").value(portal)
    yield dashboard.ConstantVariable("docs").label("Docs").value(docs)


def _choice(choice: Choice) -> dashboard.QueryVariable:
    # Grafana's own form of a query for the values of a label.
    query: dict[str, object] = {"qryType": 1, "query": choice.query, "refId": f"values-of-{choice.name}"}
    everything = grafana.VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.label)
        .query(query)
        .datasource(_SOURCE)
        .refresh(grafana.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(grafana.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _panel(panel: Panel) -> AnyPanel:
    match panel.kind:
        case "stat":
            made: AnyPanel = _stat()
        case "bars":
            made = _bars()
        case "lines":
            made = _lines(panel)
        case "table":
            made = _table(panel)
    links = all_links(panel)
    for index, query in enumerate(panel.queries):
        made.with_target(_query(query, chr(ord("A") + index), panel))
    if panel.kind != "table":
        # Of a table each column has its own.
        made.thresholds(_thresholds(panel)).unit(panel.unit)
    return (
        made.title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .no_value(panel.empty or NO_DATA)
        .links([_link(link) for link in links if not link.of_value])
        .data_links([_link(link) for link in links if link.of_value])
    )


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _by_level() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(grafana.FieldColorModeId.THRESHOLDS)


def _stat() -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(_last())
        .color_mode(shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
        .color_scheme(_by_level())
    )


def _bars() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .reduce_options(_last())
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .color_scheme(_by_level())
        .min(0)
    )


def _lines(panel: Panel) -> timeseries.Panel:
    bound = levels(panel)
    drawn = bound.page is not None or bound.ticket is not None
    mode = shapes.GraphThresholdsStyleMode.DASHED if drawn else shapes.GraphThresholdsStyleMode.OFF
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(shapes.LegendDisplayMode.TABLE)
        .placement(shapes.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
        .sort_by("Last *")
        .sort_desc(True)
    )
    return (
        timeseries.Panel()
        .draw_style(shapes.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(5)
        .show_points(shapes.VisibilityMode.AUTO)
        .span_nulls(False)
        .axis_soft_min(0)
        .legend(legend)
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(mode))
        .color_scheme(dashboard.FieldColor().mode(grafana.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )


def _table(panel: Panel) -> table.Panel:
    columns = {f"Value #{chr(ord('A') + index)}": query for index, query in enumerate(panel.queries)}
    if len(columns) == 1:
        columns = {"Value": panel.queries[0]}
    tidy = {"excludeByName": {"Time": True}, "renameByName": {name: q.legend for name, q in columns.items()}}
    made = (
        table.Panel()
        .align(shapes.FieldTextAlignment.AUTO)
        .show_header(True)
        .with_transformation(grafana.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(grafana.DataTransformerConfig(id_val="organize", options=tidy))
        .color_scheme(_by_level())
    )
    for query in panel.queries:
        properties = [grafana.DynamicConfigValue("unit", query.unit or panel.unit)]
        if query is panel.queries[0]:
            coloured = _thresholds(panel).build().to_json()
            properties += [
                grafana.DynamicConfigValue("thresholds", coloured),
                grafana.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ]
        made.override_by_name(query.legend, properties)
    return made


def _query(query: Query, name: str, panel: Panel) -> prometheus.Dataquery:
    made = prometheus.Dataquery().ref_id(name).expr(query.expr).datasource(_SOURCE)
    if panel.kind == "table":
        return made.instant().format(asked.PromQueryFormat.TABLE)
    return made.range().format(asked.PromQueryFormat.TIME_SERIES).legend_format(query.legend)


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(grafana.ThresholdsMode.ABSOLUTE).steps(_steps(panel))


def _steps(panel: Panel) -> list[grafana.Threshold]:
    """Colours from no value at all upwards; each holds from its value to the next one's."""
    bound = levels(panel)
    pairs = ((bound.ticket, _TICKET), (bound.page, _PAGE))
    found = sorted((float(value), colour) for value, colour in pairs if value is not None)
    if bound.below:
        ((value, colour),) = found
        return [grafana.Threshold(None, colour), grafana.Threshold(value, _PLAIN)]
    return [grafana.Threshold(None, _PLAIN), *(grafana.Threshold(value, colour) for value, colour in found)]
