"""`pharmaloop world`: make a world on disk, replay it, play a single incident.

The command line finds it as an entry point where this package is installed, and
gives it its own options (`--json` among them). It knows nothing else of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import click

from services.kit.clock import PlatformClock, load_clock
from services.kit.errors import PharmaLoopError
from services.kit.hospitals import CLINICAL
from services.kit.metrics import Metrics
from services.world.answers import Answer, Examiner
from services.world.dryer_runs import sample_counts
from services.world.incidents import INCIDENTS, Incident
from services.world.names import SITES
from services.world.platform_api import Platform, Refused, Say
from services.world.play import LIMIT_MINUTES, NoEndpoints, check_endpoints, play, play_world
from services.world.progress import OtherWorld, Progress
from services.world.simulation import Options
from services.world.sizes import SIZES
from services.world.truth import write_truth, write_world
from services.world.worldgen import generate
from services.world.worldgen.cdisc import read_pilot

#: The now of a world that is made without a platform, unless another is given.
_ANCHOR = datetime(2026, 1, 1, 8, tzinfo=UTC)
_EXPECTED = (NoEndpoints, OtherWorld, Refused, PharmaLoopError, FileNotFoundError)


class Addresses(Protocol):
    """Where the services listen, as the command line found it."""

    @property
    def grpc(self) -> Mapping[str, str]: ...


class Shared(Protocol):
    """What the command line hands to its commands."""

    as_json: bool

    @property
    def endpoints(self) -> Addresses: ...

    @property
    def state(self) -> Path: ...


class Failure(click.ClickException):
    """What went wrong, in a sentence; exit status 2, of a refusal 1, where nobody can be asked 3."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.exit_code = 3 if isinstance(error, NoEndpoints) else 1 if isinstance(error, Refused) else 2


_seed = click.option("--seed", default=7, show_default=True, help="The same seed makes the same world.")
_size = click.option(
    "--size",
    type=click.Choice(sorted(SIZES)),
    default="ws",
    show_default=True,
    help="How much of everything there is.",
)
_speed = click.option(
    "--speed",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1.0,
    show_default=True,
    help="How much faster than it was planned.",
)


def _examples(*rest: str) -> str:
    """What stands below the help, as the command line shows it."""
    return "\b\nExamples:\n" + "\n".join(f"  pharmaloop world {line}" for line in rest)


@click.group(epilog=_examples("make --out w --seed 7", "replay --size small", "incident mix-up"))
def world() -> None:
    """Simulated worlds with written-down truth."""


@world.command(epilog=_examples("make --out w", "make --out w --seed 3 --size small"))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write."
)
@_seed
@_size
@click.option("--anchor", type=click.DateTime(), help="The world's now, UTC  [default: 2026-01-01 08:00]")
@click.pass_obj
def make(shared: Shared, out: Path, seed: int, size: str, anchor: datetime | None) -> None:
    """Write a world and its truth as Parquet, without any platform."""
    now = anchor.replace(tzinfo=UTC) if anchor else _ANCHOR
    try:
        made = generate(seed, now, read_pilot(), sample_counts(), SIZES[size])
    except FileNotFoundError as error:
        raise Failure(error) from None
    write_world(made, out)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    document = {
        "seed": seed,
        "size": size,
        "anchor": now.isoformat(),
        "files": {str(path.relative_to(out)): path.stat().st_size for path in files},
    }
    if shared.as_json:
        click.echo(json.dumps(document))
        return
    for name, length in document["files"].items():  # type: ignore[attr-defined]
        click.echo(f"{name:<32}{length:>10} bytes")
    click.echo(f"world {size} of seed {seed} is in {out / 'world'}, its truth in {out / 'truth'}")


@world.command(epilog=_examples("replay", "replay --seed 3 --speed 2 --qa manual"))
@_seed
@_size
@_speed
@click.option("--qa", type=click.Choice(["auto", "manual"]), default="auto", help="Who judges and signs.")
@click.option("--loops", default=0, help="Start no more runs once so many loops closed.")
@click.option("--limit", default=LIMIT_MINUTES, show_default=True, help="Give up after so many minutes.")
@click.pass_context
def replay(
    context: click.Context, seed: int, size: str, speed: float, qa: str, loops: int, limit: float
) -> None:
    """Play a world against the running platform."""
    shared: Shared = context.obj
    manual = qa == "manual"
    options = Options(speed, manual, loops, 0.0 if manual else limit)
    told = Told(load_clock(shared.state), shared.as_json)
    missing = _run(
        play(shared.endpoints.grpc, shared.state, Metrics("world"), SIZES[size], seed, options, told.say)
    )
    told.end({"seed": seed, "size": size, "missing": missing, "ok": not missing})
    if missing:
        context.exit(1)


@world.command(epilog=_examples("incident mix-up", "incident drift --speed 5"))
@click.argument("name", type=click.Choice(sorted(INCIDENTS)))
@_seed
@_speed
@click.option("--limit", type=float, help="Give up after so many minutes  [default: 10, silence 20]")
@click.pass_context
def incident(context: click.Context, name: str, seed: int, speed: float, limit: float | None) -> None:
    """Play one incident in a small world of its own, and compare what the platform answered.

    Exit status 1 when an answer is not the expected one, or the time was over.
    """
    shared: Shared = context.obj
    told = Told(load_clock(shared.state), shared.as_json)
    what = INCIDENTS[name]
    options = Options(speed=speed, limit_minutes=what.minutes if limit is None else limit)
    missing, answers = _run(_play_incident(shared, what, seed, options, told))
    ok = not missing and all(answer.right for answer in answers)
    told.say("what the platform answered:")
    for answer in answers:
        mark = "right" if answer.right else "WRONG"
        told.say(f"{mark}: {answer.question}: {answer.answered} (expected: {answer.expected})")
    told.end(
        {
            "incident": name,
            "seed": seed,
            "answers": [answer.document() for answer in answers],
            "missing": missing,
            "ok": ok,
        }
    )
    if not ok:
        context.exit(1)


async def _play_incident(
    shared: Shared, what: Incident, seed: int, options: Options, told: Told
) -> tuple[list[str], list[Answer]]:
    """In a folder, and under names, of its own."""
    endpoints, series = shared.endpoints.grpc, f"{what.name}-{seed}"
    size = what.size(_sites(endpoints))
    check_endpoints(endpoints, size)
    folder, clock = shared.state / "world" / "incidents" / series, load_clock(shared.state)
    progress = Progress(folder, seed, size.name, clock.now())
    study = read_pilot(findings=False)
    made = generate(seed, progress.anchor, study, sample_counts(), size, series, findings=False)
    write_truth(made, folder)
    progress.save()
    told.say(what.story)
    missing = await play_world(made, endpoints, clock, progress, Metrics("world"), options, told.say)
    platform = Platform(endpoints, Metrics("world"), told.say, made.sites[0])
    try:
        return missing, await Examiner(made, platform).ask(harmless=what.harmless)
    finally:
        await platform.close()


def _sites(endpoints: Mapping[str, str]) -> list[str]:
    """The hospitals that take part here: the first is the process called clinical alone."""
    first, *others = SITES
    return [first, *(site for site in others if f"{CLINICAL}.{site}" in endpoints)]


class Told:
    """What is going on: a line each for people, or all of it in one document for programs."""

    def __init__(self, clock: PlatformClock, as_json: bool) -> None:
        self._clock, self._as_json = clock, as_json
        self._steps: list[dict[str, str]] = []
        self.say: Say = self._say

    def _say(self, text: str) -> None:
        at = self._clock.now()
        self._steps.append({"at": at.isoformat(timespec="seconds"), "said": text})
        if not self._as_json:
            click.echo(f"{at:%m-%d %H:%M}  {text}")

    def end(self, document: dict[str, Any]) -> None:
        if self._as_json:
            click.echo(json.dumps({**document, "steps": self._steps}, ensure_ascii=False))


def _run(work: Any) -> Any:
    """Run to the end; what may go wrong is one plain sentence."""
    try:
        return asyncio.run(work)
    except _EXPECTED as error:
        raise Failure(error) from None
    except BaseExceptionGroup as group:
        matched, rest = group.split(_EXPECTED)
        if rest is not None or matched is None:
            raise
        raise Failure(_first(matched)) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
