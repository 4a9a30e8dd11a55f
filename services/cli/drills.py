"""`drill`: faults planted in the stack that runs here. They need the checkout, which knows that stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from services.cli.checkout import checkout
from services.cli.endpoints import state_dir
from services.cli.nouns import DRILL
from services.cli.session import Failure, Session

_FOLDER = Path("deploy") / "drill"
_WHY = "drills break a development stack and are not installed, they stand in the checkout (deploy/drill)"


def _become(session: Session, *words: str) -> NoReturn:
    """Become the drill's own process, so that a Ctrl-C is its to undo what it has broken."""
    if session.endpoints_option:
        raise Failure("a drill breaks the stack of this checkout alone: leave --endpoints out")
    state = state_dir()
    if state is not None:
        os.environ["PHARMALOOP_STATE_DIR"] = str(state.resolve())
    os.chdir(checkout(_FOLDER, _WHY))
    given = [*words, *(["--json"] if session.as_json else [])]
    os.execv(sys.executable, [sys.executable, "-m", "deploy.drill", *given])


@DRILL.verb("list")
@click.pass_obj
def list_drills(session: Session) -> None:
    """List the drills that there are, and the alert that each must raise."""
    _become(session, "list")


@DRILL.verb("run", "site-down", "site-down --site hospital-c", "poison --as-shipped", "restore")
@click.argument("name")
@click.option("--site", default="", help="The hospital that site-down stops  [default: hospital-b]")
@click.option("--as-shipped", is_flag=True, help="Rules with their times as shipped: each takes minutes.")
@click.pass_obj
def run(session: Session, name: str, site: str, as_shipped: bool) -> None:
    """Run the drill NAME: plant its fault, wait for the alert, follow the runbook, undo, judge.

    Only on a stack that `make up` or `make run` started here. The fault is
    undone whatever happens. The drill restore breaks nothing: it lays a backup of
    the stack back into a second one, which it throws away. Exit status 1 when the
    alert did not come or the end is not as it must be; 2 when it is refused.
    """
    options = [*(["--site", site] if site else []), *(["--as-shipped"] if as_shipped else [])]
    _become(session, "run", name, *options)


@DRILL.verb("undo")
@click.pass_obj
def undo(session: Session) -> None:
    """Undo the fault that a drill has left which was killed itself."""
    _become(session, "undo")
