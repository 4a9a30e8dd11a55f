"""Break the stack that runs here on purpose, and see whether alert and runbook hold, or its backup.

    python -m deploy.drill list | run NAME [--site SITE] [--as-shipped] | undo

`pharmaloop drill` and `make drill NAME=...` are this. Exit status 0: the alert
came (where one has to) and the end is as it must be; 1: not so; 2: refused; 130: ended by Ctrl-C.
"""

import argparse
import json
import sys

from deploy.drill import restoring
from deploy.drill.alarm import alarm
from deploy.drill.course import Course, Say, Told, undo
from deploy.drill.drills import DRILLS, SITE, SITES
from deploy.drill.ground import Ground, Refused, alone, check_well, connected
from deploy.local.startup import StackError, stop_on_signals
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
    drills = [(drill.name, drill.alert, drill.story) for drill in (made(SITE) for made in DRILLS.values())]
    drills.append((restoring.NAME, "", restoring.STORY))
    if as_json:
        told = [{"name": name, "story": story, "alert": alert} for name, alert, story in drills]
        print(json.dumps({"drills": told}))
        return 0
    for name, alert, story in drills:
        print(f"{name:<13}{alert or '(none)':<23}{story}")
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
        told = _ran(ground, given, say)
    if given.as_json:
        print(json.dumps(told.document(), ensure_ascii=False))
    return 0 if told.ok else 1


def _ran(ground: Ground, given: argparse.Namespace, say: Say) -> Told:
    if given.name == restoring.NAME:
        return restoring.Restoring(ground, say).run()
    course = Course(ground, DRILLS[given.name](given.site), say, hurried=not given.as_shipped)
    with alarm(ground, hurried=not given.as_shipped) as seen:
        return course.run(seen)


def main(arguments: list[str] | None = None) -> int:
    """One command."""
    given = _parser().parse_args(arguments)
    if given.command == "list":
        return _list(as_json=given.as_json)
    names = (*DRILLS, restoring.NAME)
    if given.command == "run" and given.name not in names:
        print(f"drill: there is no drill {given.name!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    stop_on_signals()
    try:
        return _run(connected(), given)
    except Refused as error:
        print(f"drill: {error}", file=sys.stderr)
        return 2
    except (ToolsError, NotStarted, EngineError, StackError, RuntimeError, OSError) as error:
        print(f"drill: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drill: ended before its end; what it had broken is undone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
