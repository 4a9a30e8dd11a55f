"""Where panels lead: a page of the portal, another dashboard, a runbook.

The addresses of the portal and of the docs are constants of each dashboard
(`${portal}`, `${docs}`), so that an installation sets each in one place.
"""

from __future__ import annotations

from deploy.grafana.model import Link

PORTAL = "http://portal.pharmaloop.example"
DOCS = "http://docs.pharmaloop.example"
_TITLES = {
    "loops": "Loops",
    "one-run": "One loop run",
    "plant": "Plant",
    "site": "Site",
    "backbone": "Backbone",
    "services": "Services",
    "trust": "Data trust",
}


def uid(name: str) -> str:
    """A dashboard's address: of ours alone, wherever it is put."""
    return f"pharmaloop-{name}"


def label(name: str) -> str:
    """The label of the series that is clicked."""
    return f"${{__field.labels.{name}}}"


def column(name: str) -> str:
    """The column of the table's row that is clicked."""
    return f"${{__data.fields.{name}}}"


def portal(title: str, path: str) -> Link:
    """A page of the portal."""
    return Link(f"Portal: {title}", "${portal}" + path)


def board(name: str, **chosen: str) -> Link:
    """Another dashboard, for the same time, with what is chosen there."""
    variables = "".join(f"&var-{key}={value}" for key, value in chosen.items())
    return Link(f"Dashboard: {_TITLES[name]}", f"/d/{uid(name)}?${{__url_time_range}}{variables}")


def runbook(alert: str) -> Link:
    """What to do when an alert fires."""
    return Link(f"Runbook: {alert}", f"${{docs}}/docs/runbooks/{alert}.md")


STATUS = portal("status of the services", "/status")
EVERY_RUNBOOK = Link("Runbooks", "${docs}/docs/runbooks/README.md")
