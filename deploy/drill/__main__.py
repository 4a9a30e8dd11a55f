"""Break the stack that runs here on purpose, and see whether alert and runbook hold.

    python -m deploy.drill list | run NAME [--site SITE] [--as-shipped] | undo

`pharmaloop drill` and `make drill NAME=...` are this. Exit status 0: the alert
came and the end is as it must be; 1: not so; 2: refused; 130: ended by Ctrl-C.
"""

import argparse
import json
import sys

from deploy.drill.alarm import alarm
from deploy.drill.course import Course, undo
from deploy.drill.drills import DRILLS, SITE, SITES
from deploy.drill.ground import Ground, Refused, alone, check_well, connected
from deploy.local.startup import stop_on_signals
from deploy.watch.engines import NotStarted
from deploy.watch.tools import ToolsError
from services.kit.testing.engines import EngineError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drill", description="Break the local stack on purpose.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", dest="as_json", action="store_true", help="one JSON document on stdout")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[shared], help="the drills that there are")
    run = commands.add_parser("run", parents=[shared], help="run one")
    run.add_argument("name", help="a name that `list` shows")
    run.add_argument("--site", choices=SITES, default=SITE, help="the hospital of site-down")
    run.add_argument("--as-shipped", action="store_true", help="rules with their times as they are shipped")
    commands.add_parser("undo", parents=[shared], help="undo what a killed drill has left")
    return parser


def _list(*, as_json: bool) -> int:
    drills = [made(SITE) for made in DRILLS.values()]
    if as_json:
        print(json.dumps({"drills": [{"name": d.name, "story": d.story, "alert": d.alert} for d in drills]}))
        return 0
    for drill in drills:
        print(f"{drill.name:<13}{drill.alert:<23}{drill.story}")
    return 0


def _run(ground: Ground, given: argparse.Namespace) -> int:
    def say(text: str) -> None:
        print(text, file=sys.stderr if given.as_json else sys.stdout, flush=True)

    with alone(ground):
        if given.command == "undo":
            if not undo(ground, say, SITE):
                say("no fault of a drill stands here")
            return 0
        check_well(ground)
        course = Course(ground, DRILLS[given.name](given.site), say, hurried=not given.as_shipped)
        with alarm(ground, hurried=not given.as_shipped) as seen:
            told = course.run(seen)
    if given.as_json:
        print(json.dumps(told.document(), ensure_ascii=False))
    return 0 if told.ok else 1


def main(arguments: list[str] | None = None) -> int:
    """One command."""
    given = _parser().parse_args(arguments)
    if given.command == "list":
        return _list(as_json=given.as_json)
    if given.command == "run" and given.name not in DRILLS:
        print(f"drill: there is no drill {given.name!r}; there are: {', '.join(DRILLS)}", file=sys.stderr)
        return 2
    stop_on_signals()
    try:
        return _run(connected(), given)
    except Refused as error:
        print(f"drill: {error}", file=sys.stderr)
        return 2
    except (ToolsError, NotStarted, EngineError, RuntimeError, OSError) as error:
        print(f"drill: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drill: ended before its end; what it had broken is undone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
