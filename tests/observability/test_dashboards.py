"""Dashboards: files are the program's, queries ask for what exists, panels say what to do and lead on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
import yaml
from fastapi.routing import APIRoute
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as grafana
from starlette.routing import compile_path

from deploy.grafana import __main__ as command
from deploy.grafana import check, page
from deploy.grafana.alerts import alerts, burn, levels, recorded
from deploy.grafana.asked import Matcher, Selector, filled, selectors, sources
from deploy.grafana.boards import BOARDS
from deploy.grafana.build import COLUMNS, all_links, text
from deploy.grafana.model import Board, Choice, Kind, Levels, Link, Panel, Query, Unit
from deploy.local.plan import SERVICES
from pharmaloop.loops.v1 import events_pb2 as loops
from services.clinical.tallies import STAGES as PLAN_STAGES
from services.clinical.tallies import STATES as NOTICE_STATES
from services.kit.contracts import short_type
from services.kit.metrics import CATALOGUE, NOTICES, PAGE_SECONDS, PLANS, PROCESS, Metric, Metrics
from services.loops.domain.cases import STAGES
from services.loops.domain.runs import OPEN, STALLED
from services.portal.measured import DONE, FAILED, REFUSED
from services.portal.pages import ROUTERS
from services.production import handlers
from tests.observability.conftest import ALERTS, PROMETHEUS, ROOT, RUNBOOKS, Run
from tests.observability.promql import KNOWN, OF_COUNTERS, grouped_by
from tests.observability.promql import selectors as named
from tests.observability.test_runbooks import parse as parse_command

PANELS = [(board, panel) for board in BOARDS for panel in board.panels]
EACH_PANEL = pytest.mark.parametrize(
    ("board", "panel"), PANELS, ids=[f"{board.uid}-{panel.title}" for board, panel in PANELS]
)
EACH_BOARD = pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
PATHS = [
    compile_path(route.path)[0]
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and "GET" in (route.methods or ())
]
#: Prometheus itself makes a series of each alert that fires: the alert's name, and what its rule keeps.
OF_ALERTS = frozenset({"alertname", "alertstate", "severity", "service", "site", "runner", "loop", "stage"})
STAGES_OF_ALL = {stage for stages in STAGES.values() for stage in stages}
#: What literal values a label may be asked for.
VALUES: dict[str, set[str]] = {
    "service": {name.partition(".")[0] for name in SERVICES} | {"world"},
    "loop": set(STAGES),
    "stage": STAGES_OF_ALL | set(PLAN_STAGES),
    "state": {OPEN, STALLED, *NOTICE_STATES},
    "outcome": {"done", "dead", FAILED},
    "part": {"database", "kafka", "topics", "state folder"},
    "code": {code.name for code in grpc.StatusCode},
    "alertstate": {"firing"},
    "job": {"pharmaloop"},
    "runner": {"production.detector", "production.lists"},
    "type": {short_type(event) for event in {*handlers.DETECTOR, *handlers.LISTS}},
    "site": {""},
}


def labels_of(name: str) -> set[str]:
    """The labels that a series of a name may have."""
    if name == "ALERTS":
        return set(OF_ALERTS)
    if name in recorded():
        return grouped_by(recorded()[name])
    return set(KNOWN[name].labels)


def test_there_are_the_dashboards_that_somebody_looks_for() -> None:
    names = ["loops", "one-run", "plant", "site", "backbone", "services", "trust"]
    assert [board.uid for board in BOARDS] == [f"pharmaloop-{name}" for name in names]


@EACH_BOARD
def test_the_files_are_what_the_program_makes(board: Board) -> None:
    assert (command.FOLDER / f"{board.uid}.json").read_text() == text(board), "run: make dashboards"
    assert {file.stem for file in command.FOLDER.iterdir()} == {one.uid for one in BOARDS}


def test_the_page_is_what_the_program_makes() -> None:
    assert page.PAGE.read_text() == page.text(), "run: make dashboards"
    assert "Grafana itself was not run" in page.text()


@EACH_BOARD
def test_the_sdk_reads_what_it_wrote(board: Board) -> None:
    register_default_plugins()
    written = json.loads(text(board))
    read = grafana.Dashboard.from_json(written)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == written


@EACH_BOARD
def test_panels_fill_the_width_and_do_not_overlap(board: Board) -> None:
    panels = json.loads(text(board))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    lowest = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(COLUMNS) for y in range(lowest)}, "holes"


@EACH_PANEL
def test_a_panel_has_a_unit_and_says_what_to_do(board: Board, panel: Panel) -> None:
    assert panel.unit in get_args(Unit)
    assert panel.kind in get_args(Kind)
    for said in (panel.shows, panel.do):
        assert said.endswith((".", "?"))
        assert len(said) > 30
    for typed in re.findall(r"`(pharmaloop [^`]+)`", panel.description):
        parse_command(typed)
    made = next(one for one in json.loads(text(board))["panels"] if one["title"] == panel.title)
    assert made["description"]
    assert len(made["targets"]) == len(panel.queries)


@pytest.mark.req("N5")
@EACH_PANEL
def test_a_query_names_what_exists(board: Board, panel: Panel) -> None:
    variables = {f"${one.name}" for one in board.variables} | {"$__rate_interval"}
    for query in panel.queries:
        assert set(re.findall(r"\$\w+", query.expr)) <= variables
        for one in named(filled(query.expr)):
            assert one.name in KNOWN or one.name in recorded() or one.name == "ALERTS", one.name
            assert one.labels <= labels_of(one.name), f"{one.name} has no {one.labels - labels_of(one.name)}"
            if one.name in KNOWN:
                assert (one.function in OF_COUNTERS) == KNOWN[one.name].rises, f"{one.function}({one.name})"
        having = set().union(*(labels_of(one.name) for one in selectors(query.expr)))
        assert grouped_by(filled(query.expr)) <= having


@EACH_PANEL
def test_a_query_asks_for_values_that_there_are(board: Board, panel: Panel) -> None:
    for query in panel.queries:
        for selector in sources(query.expr):
            for matcher in selector.matchers:
                if matcher.value == ".*":
                    continue
                values = matcher.value.split("|") if "~" in matcher.op else [matcher.value]
                assert set(values) <= VALUES[matcher.label], matcher


@EACH_PANEL
def test_names_of_series_and_links_are_of_labels_that_are_kept(board: Board, panel: Panel) -> None:
    kept = [kept_by(query) for query in panel.queries]
    if panel.kind != "table":
        for query, labels in zip(panel.queries, kept, strict=True):
            assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= labels, query
            assert query.unit is None, "a column alone has a unit of its own"
    else:
        assert len({query.legend for query in panel.queries}) == len(panel.queries)
    every = set.intersection(*kept)
    for link in panel.links:
        fields = "data.fields" if panel.kind == "table" else "field.labels"
        asked = re.findall(r"\$\{__([a-z.]+)\.(\w+)\}", link.url)
        assert all(kind == fields and label in every for kind, label in asked), link


def kept_by(query: Query) -> set[str]:
    """The labels of a query's result: what it is grouped by, else what its recording rule is."""
    grouped = grouped_by(filled(query.expr))
    if grouped:
        return grouped
    return set.union(*(labels_of(one.name) for one in selectors(query.expr) if one.name in recorded()), set())


@EACH_PANEL
def test_a_panel_leads_to_a_cause(board: Board, panel: Panel) -> None:
    assert panel.links, "a page of the portal, or the next dashboard"
    for link in (*all_links(panel), *board.links):
        leads(board, link)


def leads(board: Board, link: Link) -> None:
    """Assert that a link leads to something that there is, with variables that it has."""
    if link.url.startswith("/d/"):
        place = urlsplit(link.url)
        target = next(one for one in BOARDS if one.uid == place.path.removeprefix("/d/"))
        assert target is not board, "it leads to itself"
        chosen = {name.removeprefix("var-") for name in parse_qs(place.query) if name.startswith("var-")}
        assert chosen <= {one.name for one in target.variables}, link
        return
    root, _, rest = link.url.partition("/")
    assert root in ("${portal}", "${docs}")
    for variable in re.findall(r"\$\{(\w+)\}", rest):
        assert variable.startswith("__") or variable in {one.name for one in board.variables}, link
    filled_in = "/" + re.sub(r"\$\{[^}]*\}", "some-1", rest)
    place = urlsplit(filled_in)
    if root == "${portal}":
        assert any(path.match(place.path) for path in PATHS), link
        assert set(parse_qs(place.query)) <= {"loop", "state"}
    elif "some-1" not in filled_in:
        assert (ROOT / place.path.lstrip("/")).exists(), link


def test_a_link_to_nowhere_would_be_found() -> None:
    for url in (
        "${portal}/rnus",
        "/d/pharmaloop-site?var-hospital=x",
        "${docs}/docs/runbooks/None.md",
        "http://x",
    ):
        with pytest.raises(AssertionError):
            leads(BOARDS[0], Link("x", url))


@EACH_BOARD
def test_choices_are_of_labels_that_there_are(board: Board) -> None:
    choices = {one.name: one for one in board.variables if isinstance(one, Choice)}
    for one in choices.values():
        assert one.name in KNOWN[one.metric].labels
        assert not one.within or {one.within} <= set(choices) & KNOWN[one.metric].labels
    asked = " ".join(query.expr for panel in board.panels for query in panel.queries)
    assert all(f"${name}" in asked for name in choices), "a choice that changes nothing"


def test_every_alert_is_judged_on_a_panel_that_shows_its_number() -> None:
    seen: dict[str, set[str]] = {}
    for _, panel in PANELS:
        for alert in panel.alerts:
            assert (RUNBOOKS / f"{alert}.md").exists()
            names = {one.name for query in panel.queries for one in sources(query.expr)}
            of_alert = {one.name for rule in alerts()[alert] for one in sources(rule["expr"])}
            assert names & of_alert, f"{panel.title} shows nothing that {alert} judges"
            seen.setdefault(alert, set()).add(panel.title)
    assert set(seen) == {rule.name for rule in ALERTS}


def test_colours_begin_where_the_alert_does() -> None:
    def panel(alert: str, unit: Unit = "s", own: Levels | None = None) -> Panel:
        return Panel("x", "stat", unit, "", "", (), (), alerts=(alert,), levels=own)

    assert levels(panel("RecordsWait")) == Levels(page=60.0)
    assert levels(panel("ViewsBehind")) == Levels(ticket=30.0)
    assert levels(panel("RunStalled")) == Levels(page=1.0), "more than none is one"
    assert levels(panel("RunnerDown")) == Levels(page=1.0, below=True)
    assert levels(panel("RpcAvailabilityBudget", "suffix:× budget")) == Levels(), "no simple bound"
    assert levels(panel("RecordsWait", own=Levels(ticket=5))) == Levels(ticket=5)
    assert burn("rpc-availability", "1h") == "pharmaloop:rpc_availability:error_ratio1h / 0.001"


def test_colours_are_put_on_what_is_shown() -> None:
    (board,) = (board for board in BOARDS if board.uid == "pharmaloop-loops")
    made = {panel["title"]: panel for panel in json.loads(text(board))["panels"]}
    steps = made["Oldest event that waits"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"color": "text", "value": None}, {"color": "red", "value": 60.0}]
    (first, *_) = made["Stage by stage"]["fieldConfig"]["overrides"]
    assert first["matcher"]["options"] == "past the deadline"
    assert {one["id"] for one in first["properties"]} >= {"unit", "thresholds"}


def test_an_installation_has_its_own_addresses(tmp_path: Path) -> None:
    (tmp_path / "pharmaloop-old.json").write_text("{}")
    command.write(tmp_path, "https://portal.test/", "https://docs.test")
    assert {file.stem for file in tmp_path.iterdir()} == {board.uid for board in BOARDS}
    for file in tmp_path.iterdir():
        assert ".example" not in file.read_text()
        constants = {
            one["name"]: one["query"]
            for one in json.loads(file.read_text())["templating"]["list"]
            if one["type"] == "constant"
        }
        assert constants == {"portal": "https://portal.test", "docs": "https://docs.test"}


def test_grafana_is_told_where_dashboards_and_prometheus_are() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "pharmaloop.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "$PROMETHEUS_URL")
    scraping = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraping, "rates are asked over four scrapes and more"
    (provider,) = yaml.safe_load((folder / "dashboards" / "pharmaloop.yaml").read_text())["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert provider["options"]["path"] in page.text()


# --- what Prometheus says of the queries ----------------------------------------------------------------

_TARGETS: tuple[dict[str, str], ...] = (
    {"service": "production", "instance": "p:1"},
    {"service": "loops", "instance": "l:1"},
    {"service": "traceability", "instance": "t:1"},
    {"service": "clinical", "instance": "c:1", "site": "hospital-a"},
)
_RUNNERS = {
    "production": {"production.detector": handlers.DETECTOR, "production.lists": handlers.LISTS},
}


def _told(metric: Metric, service: str) -> list[dict[str, str]]:
    """Labels of the series that a service would tell of a metric, but for what the scraper adds."""
    runners = _RUNNERS.get(service, {f"{service}.runs": {}})
    told: list[dict[str, str]] = [{}]
    choices: dict[str, list[str]] = {
        "runner": list(runners),
        "outcome": ["done", "dead"],
        "code": ["OK", "UNAVAILABLE"],
        "part": ["database", "kafka", "topics", "state folder"],
        "site": ["hospital-a"],
        "state": [OPEN, STALLED],
    }
    if metric in (PLANS, NOTICES):
        choices |= {"stage": list(PLAN_STAGES), "state": list(NOTICE_STATES)}
    if metric is PAGE_SECONDS:
        choices |= {"outcome": [DONE, REFUSED, FAILED]}
    for label in metric.labels:
        if label not in ("service", "loop", "type"):
            values = sorted(STAGES_OF_ALL) if label == "stage" and metric is not PLANS else ["some"]
            told = [{**one, label: value} for one in told for value in choices.get(label, values)]
    if "loop" in metric.labels:
        pairs = {(loop, stage) for loop, stages in STAGES.items() for stage in stages}
        told = [
            {**one, "loop": loop}
            for one in told
            for loop in STAGES
            if "stage" not in one or (loop, one["stage"]) in pairs
        ]
    if "type" in metric.labels:
        told = [
            {**one, "type": short_type(event)}
            for one in told
            for event in {**runners.get(one.get("runner", ""), {}), loops.LoopClosed: None}
        ]
    return told


def _lines(name: str, labels: dict[str, str], rises: bool) -> dict[str, str]:
    told = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return {"series": f"{name}{{{told}}}", "values": "0+2x10" if rises else "1+0x10"}


def _installation() -> list[dict[str, str]]:
    """Every series of the registry as four processes would serve it, for ten minutes."""
    found = []
    for target in _TARGETS:
        added = {"job": "pharmaloop", **target}
        for name in ("up", *PROCESS):
            found.append(_lines(name, added, name.endswith("_total")))
        for metric in CATALOGUE:
            own = {"site", "loop"} & set(metric.labels)
            if own and target["service"] != ("clinical" if "site" in own else "loops"):
                continue
            for labels in _told(metric, target["service"]):
                told = {**added, **labels}
                if metric.kind == "histogram":
                    for le in (*metric.buckets, "+Inf"):
                        found.append(_lines(f"{metric.name}_bucket", {**told, "le": str(le)}, True))
                    found += [_lines(f"{metric.name}_{part}", told, True) for part in ("count", "sum")]
                else:
                    found.append(_lines(metric.name, told, metric.kind == "counter"))
    firing = {"alertname": "RunStalled", "alertstate": "firing", "severity": "page", "loop": "safety"}
    return [*found, _lines("ALERTS", firing, False)]


@pytest.mark.req("N5")
def test_every_query_has_a_result_over_the_series_of_the_registry(run: Run, tmp_path: Path) -> None:
    """Prometheus itself evaluates all of them, with the recording rules as they are shipped."""
    exprs = sorted({filled(query.expr) for _, panel in PANELS for query in panel.queries})
    files = sorted((PROMETHEUS / "recording").glob("*.rules.yaml"))
    asked = [
        {
            "expr": f"count(({expr}) >= -Inf) > bool 0",
            "eval_time": "10m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for expr in exprs
    ]
    test: dict[str, Any] = {
        "rule_files": [str(file) for file in files],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": _installation(), "promql_expr_test": asked}],
    }
    (tmp_path / "dashboards_test.yaml").write_text(yaml.safe_dump(test))
    done = run("promtool", "test", "rules", tmp_path / "dashboards_test.yaml")
    assert done.returncode == 0, (done.stdout + done.stderr)[:5000]


# --- the check of a running stack -----------------------------------------------------------------------


def test_a_selector_takes_series_as_prometheus_does() -> None:
    (one,) = selectors("sum(rate(x_total{service=~\"$service\", site!='', part=~'a|b'}[$__rate_interval]))")
    assert one.takes("x_total", {"service": "rnd", "site": "s", "part": "a"})
    assert not one.takes("x_total", {"service": "rnd", "part": "a"})
    assert not one.takes("x_total", {"site": "s", "part": "ab"})
    assert not one.takes("y_total", {"site": "s", "part": "a"})
    assert str(Selector("x", (Matcher("a", "!~", "b"),))) == 'x{a!~"b"}'


def test_what_is_recorded_is_looked_for_where_it_comes_from() -> None:
    (one,) = sources('pharmaloop:rpc:rate5m{service="rnd"}')
    assert str(one) == 'pharmaloop_rpc_seconds_count{service="rnd"}'


def test_a_running_process_is_asked_and_panels_without_data_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = Metrics("clinical")
    for stage in PLAN_STAGES:
        metrics.set(PLANS, 3, site="hospital-a", stage=stage)
    address = f"127.0.0.1:{metrics.serve('127.0.0.1', 0)}"
    assert check.main(["--metrics", address]) == 1
    told = capsys.readouterr().out
    assert "PharmaLoop: Site / What became of their plans" not in told
    assert "PharmaLoop: Site / Notices: no data: no series of pharmaloop_notices" in told
    assert "Loops (start here) / Runs that ended: empty, which may be (no run has ended yet)" in told
    assert re.search(r"\d+ of \d+ panels have data", told)


def test_who_cannot_be_asked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", str(tmp_path))
    assert check.main([]) == 2
    assert "make up" in capsys.readouterr().err
    assert check.main(["--metrics", "127.0.0.1:1"]) == 2
    assert "127.0.0.1:1/metrics" in capsys.readouterr().err
    assert check.main(["--prometheus", "http://127.0.0.1:1"]) == 2
    assert "as a Prometheus does" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "lacks"),
    [
        (["1"], ""),
        (["NaN", "0"], ""),
        ([], "nothing for sum(rate(x_total[5m]))"),
        (["NaN"], "not a number for sum(rate(x_total[5m]))"),
    ],
)
def test_a_prometheus_is_asked_for_results_that_are_numbers(
    monkeypatch: pytest.MonkeyPatch, values: list[str], lacks: str
) -> None:
    asked = []

    def get(url: str, body: bytes | None = None) -> str:
        asked.append((url, parse_qs((body or b"").decode())))
        return json.dumps({"data": {"result": [{"value": [1, value]} for value in values]}})

    monkeypatch.setattr(check, "fetched", get)
    assert check.of_prometheus("http://p:9090/")("sum(rate(x_total[$__rate_interval]))") == lacks
    assert asked == [("http://p:9090/api/v1/query", {"query": ["sum(rate(x_total[5m]))"]})]
