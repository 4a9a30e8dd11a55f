"""Composition root of the simulated world: seed -> world -> truth on disk -> actors.

    python -m services.world.main --seed 7 --speed 1 --qa auto

The truth is written before anything is sent. The same seed in the same state
folder goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping

import uvloop

from services.kit.clock import load_clock
from services.kit.errors import PharmaLoopError
from services.kit.metrics import Metrics
from services.kit.settings import PlatformSettings, ServiceSettings, service_settings
from services.world.dryer_runs import sample_counts
from services.world.platform_api import NEEDED, Platform, Refused
from services.world.progress import OtherWorld, Progress
from services.world.simulation import Options, Simulation
from services.world.truth import write_truth
from services.world.worldgen import generate
from services.world.worldgen.cdisc import read_pilot

_LIMIT_MINUTES = 20.0


class NoEndpoints(Exception):
    """It is not said where the services listen."""


def say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="services.world.main", description="A simulated industry.")
    parser.add_argument("--seed", type=int, default=7, help="the same seed makes the same world")
    parser.add_argument("--speed", type=_positive, default=1.0, help="scales the replay of the live runs")
    parser.add_argument("--qa", choices=("auto", "manual"), default="auto", help="who judges and signs")
    parser.add_argument("--loops", type=int, default=0, help="start no more runs once so many loops closed")
    parser.add_argument(
        "--limit", type=float, help=f"give up after so many minutes ({_LIMIT_MINUTES:g}; manual: never)"
    )
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError("a speed is above 0 and at most 1000")
    return value


def _options(arguments: argparse.Namespace) -> Options:
    manual = arguments.qa == "manual"
    limit = arguments.limit if arguments.limit is not None else (0.0 if manual else _LIMIT_MINUTES)
    return Options(arguments.speed, manual, arguments.loops, limit)


def _check_endpoints(endpoints: Mapping[str, str]) -> None:
    if missing := [name for name in NEEDED if name not in endpoints]:
        raise NoEndpoints(
            f"PHARMALOOP_ENDPOINTS does not say where {', '.join(missing)} listens; "
            'set it to {"service": "host:port", ...}'
        )


async def _play(seed: int, options: Options) -> int:
    settings = PlatformSettings()
    _check_endpoints(settings.endpoints)
    folder, clock = settings.state_dir / "world", load_clock(settings.state_dir)
    progress = Progress(folder, seed, clock.now())
    world = generate(seed, progress.anchor, read_pilot(), sample_counts())
    write_truth(world, folder)
    progress.save()
    metrics, own = Metrics("world"), service_settings("world", ServiceSettings)
    metrics.serve(own.metrics_host, own.metrics_port)
    platform = Platform(settings.endpoints, metrics, say)
    say(f"world of seed {seed}: {len(world.dryer_lots)} dryer runs, {len(world.subjects)} patients")
    began = clock.wall()
    try:
        missing = await Simulation(world, platform, clock, progress, say, options).run()
    finally:
        await platform.close()
    for line in missing:
        say(f"not done after {options.limit_minutes:g} minutes: {line}")
    if not missing:
        minutes = (clock.wall() - began).total_seconds() / 60
        say(f"everything was replayed, judged and closed; it took {minutes:.1f} minutes")
    return 1 if missing else 0


def main() -> int:
    arguments = _parser().parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_play(arguments.seed, _options(arguments)))
    except* (NoEndpoints, OtherWorld, Refused, PharmaLoopError, FileNotFoundError) as group:
        for error in _leaves(group):
            say(f"world: {error}")
    except* KeyboardInterrupt:
        return_code_on_interrupt = 130
        say("world: interrupted; a new start goes on from here")
        sys.exit(return_code_on_interrupt)
    return 1


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors inside nested groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
