"""Makes a world and plays it against a running platform; what `main` and the command have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from services.kit.clock import PlatformClock, load_clock
from services.kit.hospitals import CLINICAL
from services.kit.metrics import Metrics
from services.world.dryer_runs import sample_counts
from services.world.platform_api import NEEDED, Platform, Say
from services.world.progress import Progress
from services.world.records import World
from services.world.simulation import Options, Simulation
from services.world.sizes import Size
from services.world.truth import write_truth
from services.world.worldgen import generate
from services.world.worldgen.cdisc import read_pilot

LIMIT_MINUTES = 20.0


class NoEndpoints(Exception):
    """It is not said where the services listen."""


def check_endpoints(endpoints: Mapping[str, str], size: Size) -> None:
    """NoEndpoints where a service, or a hospital's process, has no address."""
    missing = [name for name in NEEDED if name not in endpoints]
    # One hospital may be the process that is called clinical alone.
    missing += [name for name in sites_of(size)[1:] if name not in endpoints]
    if missing:
        raise NoEndpoints(
            f"PHARMALOOP_ENDPOINTS does not say where {', '.join(missing)} listens; "
            'set it to {"service": "host:port", ...}'
        )


def sites_of(size: Size) -> list[str]:
    """The endpoints of the hospitals."""
    return [f"{CLINICAL}.{site}" for site in size.sites]


async def play(
    endpoints: Mapping[str, str],
    state: Path,
    metrics: Metrics,
    size: Size,
    seed: int,
    options: Options,
    say: Say,
) -> list[str]:
    """Play W-S, or a smaller world; answers what is missing when the time limit ended it."""
    check_endpoints(endpoints, size)
    folder, clock = state / "world", load_clock(state)
    progress = Progress(folder, seed, size.name, clock.now())
    # What nobody asked patients for is not sent, and it is large.
    world = generate(seed, progress.anchor, read_pilot(findings=False), sample_counts(), size, findings=False)
    write_truth(world, folder)
    progress.save()
    return await play_world(world, endpoints, clock, progress, metrics, options, say)


async def play_world(
    world: World,
    endpoints: Mapping[str, str],
    clock: PlatformClock,
    progress: Progress,
    metrics: Metrics,
    options: Options,
    say: Say,
) -> list[str]:
    """Play a world whose truth is written; answers what is missing, or wrong."""
    runs = sum(len(line.lots) for line in world.lines)
    people = sum(len(hospital.bodies) for hospital in world.hospitals)
    say(
        f"world {world.size} of seed {world.seed}: {runs} process runs, "
        f"{people} patients of {len(world.sites)} hospitals, {len(world.dispenses)} dispenses"
    )
    platform = Platform(endpoints, metrics, say, world.sites[0])
    began = clock.wall()
    simulation = Simulation(world, platform, clock, progress, say, options)
    try:
        missing = await simulation.run()
    finally:
        await platform.close()
    for line in missing:
        why = "wrong" if simulation.over else f"not done after {options.limit_minutes:g} minutes"
        say(f"{why}: {line}")
    if not missing:
        minutes = (clock.wall() - began).total_seconds() / 60
        say(f"everything was replayed, judged and closed; it took {minutes:.1f} minutes")
    return missing
