"""The page docs/dashboards.md, made from the same boards as the dashboards."""

from __future__ import annotations

from deploy.grafana.alerts import levels
from deploy.grafana.boards import BOARDS
from deploy.grafana.build import all_links
from deploy.grafana.model import Board, Panel
from deploy.local.plan import ROOT

PAGE = ROOT / "docs" / "dashboards.md"
_HEAD = """\
# Dashboards

Made from `deploy/grafana/boards` by `make dashboards`; do not edit it.

Seven dashboards for Grafana 11.6, as files: `deploy/grafana/dashboards/*.json`, loaded by
`deploy/grafana/provisioning`. Start with **Loops**: it says which loop is stuck, at which stage, at which
hospital, and how many patients wait; each panel leads to a page of the portal, another dashboard, or a
runbook. A panel's description says what it shows and what to do. Colour is kept for what is wrong: red from
where an alert pages, orange from where it makes a ticket: the bound of the rule itself, without its patience.

**Grafana itself was not run.** What is checked: the files are what the SDK makes and reads back; every query
is taken by Prometheus and gives a result over series of the metric registry; names, labels and values of
labels exist; links lead to pages, dashboards and runbooks that there are. How it looks on a screen is not.

## Installing them
- **In Kubernetes** the chart makes a ConfigMap of each (`monitoring.dashboards`), with the addresses of
  `monitoring.rules`.
- **Files.** `dashboards/` goes to `/etc/grafana/dashboards/pharmaloop`, the two folders of `provisioning/` to
  `/etc/grafana/provisioning`; `PROMETHEUS_URL` in Grafana's environment says where Prometheus is.
- **Addresses.** Links lead to the portal and the docs by two constants of each dashboard. This writes the
  files with yours: `.venv/bin/python -m deploy.grafana --portal URL --docs URL --to FOLDER`.
- **Scraping** is as in [watching.md](watching.md): job `pharmaloop`, labels `service` and `site`, recording
  rules loaded.
- Kafka's and MongoDB's own exporters are not used: these are the platform's numbers.

## Which panels have numbers
`make dashboards-check` asks the stack that runs here whether each selector of a panel finds a series, and
tells the panels without. With `PROMETHEUS=URL` (`make watch` tells its address) a Prometheus evaluates every
query instead. `.venv/bin/python -m deploy.grafana.check --metrics URL ...` asks other processes. A test asks
a whole stack so after its simulated world is done (`tests/loops/test_thread.py`).
"""


def text() -> str:
    """The page."""
    return "\n".join([_HEAD, *map(_board, BOARDS)])


def _board(board: Board) -> str:
    lines = [f"## {board.title.removeprefix('PharmaLoop: ')}", "", board.tells, ""]
    if board.variables:
        names = ", ".join(f"`{one.name}`" for one in board.variables)
        lines += [f"To choose: {names}.", ""]
    lines += [f"File: `{board.uid}.json`", ""]
    for row in board.rows:
        lines += [
            f"### {board.title.removeprefix('PharmaLoop: ').partition(' (')[0]}: {row.title}",
            "",
            "| panel | as | unit | shows | do | coloured | leads to |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_panel(panel) for panel in row.panels]
        lines.append("")
    return "\n".join(lines)


def _panel(panel: Panel) -> str:
    leads = ", ".join(link.title for link in all_links(panel))
    unit = panel.unit.removeprefix("suffix:")
    cells = [panel.title, panel.kind, unit, panel.shows, panel.do, _coloured(panel), leads]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _coloured(panel: Panel) -> str:
    bound = levels(panel)
    below = "below " if bound.below else "from "
    pairs = (("orange", bound.ticket), ("red", bound.page))
    return ", ".join(f"{colour} {below}{value:g}" for colour, value in pairs if value is not None)
