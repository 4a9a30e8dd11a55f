"""The stack that a drill breaks: one of this machine and this checkout, or none.

A drill stops brokers and throws garbage into topics. So it looks twice where it
is: everything has to listen on loopback, under this checkout's own process
runner, with engines of its own, and to be well before.
"""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from deploy.drill.rules import Sample
from deploy.local.health import health
from deploy.local.plan import ROOT, WORLD, Plan, make_plan, state_dir
from deploy.local.supervised import State, Supervisor
from deploy.watch.files import targets
from services.kit.testing.engines import HOST

_SCRAPE_SECONDS = 3.0
_COMMAND_SECONDS = 300
_WELL_SECONDS = 60.0
#: What would have a drill break something that is not this checkout's.
_FOREIGN = ("PHARMALOOP_ENDPOINTS", "KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI")
#: The only program that may have ended: a world whose story is told.
_MAY_END = (WORLD,)


class Refused(Exception):
    """No drill here: the message says why, and what to do."""


@dataclass(frozen=True)
class Done:
    """A command that was run: what was typed, what it printed (and on stdout alone), its exit status."""

    line: str
    output: str
    status: int
    stdout: str = ""


class Ground:
    """A stack that may be drilled."""

    def __init__(self, state: Path, plan: Plan, supervisor: Supervisor, endpoints: Mapping[str, Any]) -> None:
        self.state = state
        self.plan = plan
        self.supervisor = supervisor
        self.endpoints = endpoints

    @property
    def folder(self) -> Path:
        """Where drills keep what they write."""
        return self.state / "drill"

    @property
    def planted(self) -> Path:
        """The record of a fault that stands now; without one, none does."""
        return self.folder / "planted.json"

    # -- its processes ----------------------------------------------------

    def process(self, name: str) -> State:
        return self.supervisor.state(name)

    def serving(self) -> dict[str, str]:
        """What each service says of its health."""
        services = self.endpoints["grpc"]
        with ThreadPoolExecutor(len(services)) as pool:
            return dict(zip(services, pool.map(health, services.values()), strict=True))

    @property
    def world_plays(self) -> bool:
        """Whether the simulated world still sends."""
        world = self.supervisor.states().get(WORLD)
        return world is not None and world.state in ("STARTING", "RUNNING")

    def scrape(self) -> list[Sample]:
        """The numbers of all processes, with `up` as Prometheus has it, and the labels of each target."""
        found = targets(self.endpoints["metrics"])
        with ThreadPoolExecutor(len(found)) as pool:
            return [sample for part in pool.map(_numbers, found) for sample in part]

    # -- commands ---------------------------------------------------------

    def run(self, line: str) -> Done:
        """Run what a runbook says, as somebody in this checkout would who has its environment active."""
        program, *words = shlex.split(line)
        command = {
            "pharmaloop": [sys.executable, "-m", "services.cli.main", *words],
            ".venv/bin/python": [sys.executable, *words],
        }.get(program, [program, *words])
        told = {"PHARMALOOP_STATE_DIR": str(self.state), "COLUMNS": "120", "NO_COLOR": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Done(line, f"(no end after {_COMMAND_SECONDS} s)", -1)
        return Done(line, (done.stdout + done.stderr).rstrip(), done.returncode, done.stdout)

    def ask(self, *words: str) -> Any:
        """The JSON document of a command of the operator's tool; None where it gave none."""
        done = self.run(shlex.join(["pharmaloop", *words, "--json"]))
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def letters(self) -> dict[str, dict[str, Any]]:
        """The dead letters that wait for somebody, by id. RuntimeError where some are not told."""
        document = self.ask("dlq", "list")
        if document is None or document.get("unanswered"):
            silent = ", ".join((document or {}).get("unanswered", ())) or "nobody answered"
            raise RuntimeError(f"dead letters are missing in the list: {silent}")
        return {letter["letter"]: letter for letter in document["letters"]}


def _numbers(target: Mapping[str, Any]) -> list[Sample]:
    labels = {"job": "pharmaloop", "instance": target["targets"][0], **target["labels"]}
    try:
        with urllib.request.urlopen(
            f"http://{target['targets'][0]}/metrics", timeout=_SCRAPE_SECONDS
        ) as answer:
            text = answer.read().decode()
    except OSError:
        return [Sample("up", labels, 0.0)]
    # What the process says of itself stands before what is said of it: honor_labels.
    return [
        Sample("up", labels, 1.0),
        *(
            Sample(sample.name, {**labels, **sample.labels}, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ),
    ]


def refusal(state: Path, environment: Mapping[str, str]) -> str:
    """Why what is named here may not be broken; "" for what may."""
    for name in _FOREIGN:
        if environment.get(name):
            return f"{name} is set: a drill breaks only a stack with engines of its own; unset it"
    try:
        endpoints = json.loads((state / "endpoints.json").read_text())
    except FileNotFoundError:
        return f"no stack runs here ({state}): start one with `make up`"
    except ValueError:
        return f"{state / 'endpoints.json'} is not JSON: start the stack with `make up`"
    named = [
        *endpoints.get("grpc", {}).items(),
        *endpoints.get("metrics", {}).items(),
        ("kafka", endpoints.get("kafka", "")),
        ("mongodb", endpoints.get("mongodb", "").removeprefix("mongodb://")),
    ]
    for name, address in named:
        if not address.startswith(f"{HOST}:"):
            where = address or "an address that is not known"
            return f"{name} listens at {where}, not on {HOST}: this is no local stack"
    return ""


def unwell(states: Mapping[str, State], serving: Mapping[str, str]) -> list[str]:
    """What is wrong with a stack before anything was broken, a sentence each."""
    lacks = [f"{name} does not run under it" for name in ("kafka", "mongod") if name not in states]
    lacks += [
        f"{name} is {state.state}"
        for name, state in states.items()
        if state.state != "RUNNING" and not (name in _MAY_END and state.has_succeeded)
    ]
    return lacks + [f"{name}: {said}" for name, said in serving.items() if said != "SERVING"]


def connected(environment: Mapping[str, str] = os.environ) -> Ground:
    """The stack of this checkout, well or not; Refused for none, and for any other."""
    state = state_dir(environment)
    if why := refusal(state, environment):
        raise Refused(why)
    plan = make_plan()
    supervisor = Supervisor(plan)
    if not supervisor.is_up():
        raise Refused(f"the stack of {state} is down: start it with `make up`")
    endpoints = json.loads((state / "endpoints.json").read_text())
    if endpoints["kafka"] != plan.bootstrap or endpoints["mongodb"] != plan.mongodb_uri:
        raise Refused("the stack uses other engines than its own: a drill does not break those")
    return Ground(state, plan, supervisor, endpoints)


@contextmanager
def alone(ground: Ground) -> Iterator[None]:
    """One drill at a time; Refused while another one runs."""
    ground.folder.mkdir(parents=True, exist_ok=True)
    with (ground.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another drill runs on this stack: wait for its end") from None
        yield


def check_well(ground: Ground, seconds: float = _WELL_SECONDS) -> None:
    """Refused for a stack on which a drill could not be judged; one that just starts has some time."""
    if ground.planted.exists():
        raise Refused("an earlier drill was killed and its fault still stands: `pharmaloop drill undo` first")
    end = time.monotonic() + seconds
    while (lacks := unwell(ground.supervisor.states(), ground.serving())) and time.monotonic() < end:
        time.sleep(1.0)
    if lacks:
        raise Refused(f"the stack is not well before anything was broken: {'; '.join(lacks)}")
