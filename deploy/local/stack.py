"""Run the platform on one machine: `python -m deploy.local.stack up|run|down|status|logs|restart`.

`up` returns when everything is ready; `run` stays, shows the logs and stops
everything at its end. Whatever ends it, nothing that it started stays behind.
"""

import argparse
import json
import sys
import time

from deploy.local.logs import Follower, LogTail, Printer
from deploy.local.plan import MIGRATE, PORTAL, SERVICES, WORLD, Plan, make_plan
from deploy.local.startup import Stack, StackError, ignore_signals, stop_on_signals
from deploy.local.supervised import State, Supervisor
from services.kit.testing.engines import EngineError

NAMES = ("kafka", "mongod", MIGRATE, *SERVICES, PORTAL, WORLD)


def up(plan: Plan) -> int:
    stack = Stack(plan, lambda text: print(text, flush=True))
    if stack.supervisor.is_up():
        stack.check()
        print("up: the stack is already up; 'make down' stops it")
        return 0
    stack.start(tied=False)
    print("up: 'make status' shows it, 'make logs' follows its logs, 'make down' stops it")
    return 0


def run(plan: Plan, *, until_done: bool) -> int:
    """Everything in the foreground, until Ctrl-C (or, on request, until the world is done)."""
    printer = Printer(["stack", *NAMES])
    stack = Stack(plan, lambda text: printer.line("stack", text))
    follower = Follower([LogTail(name, plan.log_file(name)) for name in NAMES], printer)
    try:
        follower.start()
        stack.start(tied=True)
        return Watch(stack, printer, until_done=until_done).until_the_end()
    except KeyboardInterrupt:
        return 0  # being told to stop is how a run ends
    finally:
        ignore_signals()
        if stack.supervisor.is_ours():
            printer.line("stack", "stopping ...")
            stack.supervisor.shut_down()
            printer.line("stack", "stopped")
        follower.stop()


class Watch:
    """Says what happens to the processes while a run is in the foreground."""

    def __init__(self, stack: Stack, printer: Printer, *, until_done: bool) -> None:
        self._supervisor = stack.supervisor
        self._printer = printer
        self._until_done = until_done
        self._seen: dict[str, State] = {}

    def until_the_end(self) -> int:
        while True:
            try:
                states = self._supervisor.states()
            except OSError:
                self._printer.line("stack", "stopped by another command")
                return 0
            for name, now in states.items():
                if text := self._news(self._seen.get(name), now):
                    self._printer.line("stack", text)
            self._seen = states
            world = states.get(WORLD)
            if self._until_done and world and world.has_ended:
                return 0 if world.has_succeeded else 1
            time.sleep(0.5)

    def _news(self, before: State | None, now: State) -> str | None:
        if before and (before.state, before.pid) == (now.state, now.pid):
            return None
        if now.name == WORLD and now.has_succeeded:
            return "the world has finished" + (
                "" if self._until_done else "; the services stay up until Ctrl-C"
            )
        ends = {
            "EXITED": f"{now.name} stopped with exit status {now.exit_status}",
            "BACKOFF": f"{now.name} stopped with exit status {now.exit_status} and is tried again",
            "FATAL": f"{now.name} stops again and again and is given up; its log is shown above",
        }
        if before and now.state in ("STARTING", "RUNNING") and before.pid not in (0, now.pid):
            return f"{now.name} had stopped and was started again"
        return ends.get(now.state)


def down(plan: Plan) -> int:
    supervisor = Supervisor(plan)
    if not supervisor.is_up():
        print("down: nothing is running")
        return 0
    supervisor.shut_down()
    print("down: everything is stopped")
    return 0


def status(plan: Plan) -> int:
    supervisor = Supervisor(plan)
    if not supervisor.is_up():
        print("the stack is down: 'make up' or 'make run' starts it")
        return 1
    endpoints = json.loads((plan.state / "endpoints.json").read_text())
    others = {"kafka": "kafka", "mongod": "mongodb", PORTAL: "portal"}
    addresses = endpoints["grpc"] | {name: endpoints.get(key, "-") for name, key in others.items()}
    for state in supervisor.states().values():
        where = addresses.get(state.name, "-")
        print(f"{state.name:<22}{shown(state):<14}{where:<50}{state.description}")
    return 0


def restart(plan: Plan, name: str) -> int:
    """Start one process anew, whether it runs, stands still or has ended; the others go on."""
    stack = Stack(plan, lambda text: print(text, flush=True))
    if not stack.supervisor.is_up():
        print("the stack is down: 'make up' or 'make run' starts it", file=sys.stderr)
        return 1
    there = stack.supervisor.states()
    if name not in there:
        print(f"restart: no process {name!r} here; there are: {', '.join(there)}", file=sys.stderr)
        return 2
    stack.restart(name)
    return 0


def shown(now: State) -> str:
    """The state of a program in a word: what had only so much to do is done, what failed says how."""
    if now.name in _ENDING and now.has_succeeded:
        return "done"
    return f"EXITED ({now.exit_status})" if now.state == "EXITED" else now.state


def logs(plan: Plan) -> int:
    follower = Follower([LogTail(name, plan.log_file(name)) for name in NAMES], Printer(NAMES))
    follower.start()
    try:
        while Supervisor(plan).is_up():
            time.sleep(1)
    except KeyboardInterrupt:
        return 0
    finally:
        follower.stop()
    print("logs: the stack is down")
    return 0


#: Programs that end by themselves: the simulated world when its story is over.
_ENDING = (MIGRATE, WORLD)
#: What the simulated world is told.
_WORLD_OPTIONS = ("--seed", "--size", "--speed", "--qa", "--loops")


def _names(value: str) -> frozenset[str]:
    names = frozenset(value.split(","))
    if unknown := names - set(NAMES):
        raise argparse.ArgumentTypeError(
            f"no such process: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}"
        )
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stack", description="Run the platform on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "start in the background"), ("run", "start in the foreground")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--only", type=_names, default=frozenset(), help="comma-separated processes")
        for option in _WORLD_OPTIONS:
            command.add_argument(option, help="passed to the simulated world")
        if name == "run":
            command.add_argument("--until-done", action="store_true", help="stop when the world has finished")
    for name, text in (("down", "stop everything"), ("status", "what runs"), ("logs", "follow the logs")):
        commands.add_parser(name, help=text)
    one = commands.add_parser("restart", help="start one process anew")
    one.add_argument("name", help="as `status` names it")
    return parser


def _world_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    given = ((option, getattr(arguments, option[2:])) for option in _WORLD_OPTIONS)
    return tuple(word for name, value in given if value is not None for word in (name, value))


def main() -> int:
    arguments = _parser().parse_args()
    stop_on_signals()
    try:
        if arguments.command == "run":
            plan = make_plan(
                arguments.only, _world_options(arguments), restart_world=not arguments.until_done
            )
            return run(plan, until_done=arguments.until_done)
        if arguments.command == "up":
            return up(make_plan(arguments.only, _world_options(arguments)))
        if arguments.command == "restart":
            return restart(make_plan(), arguments.name)
        return {"down": down, "status": status, "logs": logs}[arguments.command](make_plan())
    except (StackError, EngineError) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
