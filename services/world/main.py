"""Composition root of the simulated world: seed -> world -> truth on disk -> actors.

    python -m services.world.main --seed 7 --size ws --speed 1 --qa auto

The truth is written before anything is sent. The same seed in the same state
folder goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop

from services.kit.errors import PharmaLoopError
from services.kit.metrics import Metrics
from services.kit.settings import PlatformSettings, ServiceSettings, service_settings
from services.world.platform_api import Refused
from services.world.play import LIMIT_MINUTES, NoEndpoints, play
from services.world.progress import OtherWorld
from services.world.simulation import Options
from services.world.sizes import SIZES, Size


def say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="services.world.main", description="A simulated industry.")
    parser.add_argument("--seed", type=int, default=7, help="the same seed makes the same world")
    parser.add_argument("--size", choices=sorted(SIZES), default="ws", help="how large it is")
    parser.add_argument("--speed", type=_positive, default=1.0, help="scales the replay of the live runs")
    parser.add_argument("--qa", choices=("auto", "manual"), default="auto", help="who judges and signs")
    parser.add_argument("--loops", type=int, default=0, help="start no more runs once so many loops closed")
    parser.add_argument(
        "--limit", type=float, help=f"give up after so many minutes ({LIMIT_MINUTES:g}; manual: never)"
    )
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError("a speed is above 0 and at most 1000")
    return value


def _options(arguments: argparse.Namespace) -> Options:
    manual = arguments.qa == "manual"
    limit = arguments.limit if arguments.limit is not None else (0.0 if manual else LIMIT_MINUTES)
    return Options(arguments.speed, manual, arguments.loops, limit)


async def _play(seed: int, size: Size, options: Options) -> int:
    settings = PlatformSettings()
    metrics, own = Metrics("world"), service_settings("world", ServiceSettings)
    metrics.serve(own.metrics_host, own.metrics_port)
    missing = await play(settings.endpoints, settings.state_dir, metrics, size, seed, options, say)
    return 1 if missing else 0


def main() -> int:
    arguments = _parser().parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_play(arguments.seed, SIZES[arguments.size], _options(arguments)))
    except* (NoEndpoints, OtherWorld, Refused, PharmaLoopError, FileNotFoundError) as group:
        for error in leaves(group):
            say(f"world: {error}")
    except* KeyboardInterrupt:
        return_code_on_interrupt = 130
        say("world: interrupted; a new start goes on from here")
        sys.exit(return_code_on_interrupt)
    return 1


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors inside nested groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
