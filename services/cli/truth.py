"""What the simulated worlds wrote down of themselves: read from Parquet, for `verify` alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from services.cli import effects, judge_studies, judge_transfers
from services.cli.judge import CORRECTED, Fault, Member, Truth
from services.cli.session import Failure

_WORLD, _FOLDER, _FILE = "world", "truth", "truth.json"
#: Beside the folder: it is written while the world is played.
_FIRST_LOTS = "first-lots.jsonl"


@dataclass(frozen=True)
class Planted:
    """A world that was played here: the folder of its truth, and the summary."""

    folder: Path
    summary: Mapping[str, Any]


def read_worlds(state: Path) -> list[Planted]:
    """Every world that was played here: the industry, and single incidents.

    Failure where none was started, or what one wrote cannot be read.
    """
    root = state / _WORLD
    paths = sorted(root.glob(f"**/{_FOLDER}/{_FILE}"))
    if not paths:
        raise Failure(f"{root} holds no truth: the simulated world has not been started here")
    return [Planted(path.parent, _summary(path)) for path in paths]


def sites_of(worlds: Iterable[Planted]) -> list[str]:
    return sorted({site for world in worlds for site in world.summary["sites"]})


def truth_of(worlds: Sequence[Planted], lots: Iterable[str]) -> Truth:
    """What was planted, and of the lots everybody who was exposed at a site."""
    wanted = sorted(lots)
    truth = Truth()
    for world in worlds:
        truth.lots.update(row["lot"] for row in _rows(world.folder / "lots.parquet"))
        truth.planted.update({item["lot"]: _fault(item) for item in world.summary["planted"]})
        truth.live.update(world.summary["live"])
        for row in _rows(world.folder / "exposures.parquet", wanted):
            if row["pseudonym"]:  # nobody's patient is nobody's to list
                _add(truth, row)
    return truth


@dataclass(frozen=True)
class Development:
    """What a world's developer did with its medicine."""

    product: str
    transfers: judge_transfers.Planted
    studies: tuple[judge_studies.Planted, ...]


def developments(worlds: Iterable[Planted]) -> Iterator[Development]:
    """The medicine of each world that has one."""
    for world in worlds:
        held = world.summary.get("treatment")
        if held:
            moved = held["transfers"]
            yield Development(
                held["product"],
                judge_transfers.Planted(
                    set=moved["set"],
                    plant=moved["plant"],
                    versions=moved["versions"],
                    misfit_set=moved["misfit"]["set"],
                    misfit_plant=moved["misfit"]["plant"],
                    misfit_rules=tuple(moved["misfit"]["rules"]),
                    mistakes=tuple(moved["mistakes"]),
                    first_lots=_first_lots(world.folder.parent / _FIRST_LOTS),
                ),
                tuple(judge_studies.Planted(**one) for one in held["studies"]),
            )


def _first_lots(path: Path) -> tuple[judge_transfers.FirstLot, ...]:
    """The first lots of transfers, each as it was made last; a line that was cut short is left out."""
    found: dict[str, judge_transfers.FirstLot] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "biomass" in row:
            hours, biomass = tuple(row["hours"]), tuple(row["biomass"])
            found[row["lot"]] = judge_transfers.FirstLot(row["lot"], hours, biomass)
        else:
            held = found[row["lot"]]
            found[held.lot] = replace(held, told={**held.told, row["hour"]: row["told"]})
    return tuple(found.values())


def planted_effects(worlds: Iterable[Planted]) -> dict[str, effects.Planted]:
    """What each faulty lot does to who takes it, and how many that truly were."""
    found = {}
    for world in worlds:
        harmed = Counter(row["lot"] for row in _rows(world.folder / "effects.parquet"))
        for item in world.summary["planted"]:
            found[item["lot"]] = effects.Planted(
                effect=item["effect"],
                risk=item["risk"],
                otherwise=world.summary["complaint_otherwise"],
                labs=item["labs"],
                harmed=harmed[item["lot"]],
            )
    return found


def ways_of(worlds: Iterable[Planted]) -> dict[tuple[str, str], effects.Ways]:
    """How everybody answers, by site and pseudonym."""
    return {
        (row["site"], row["pseudonym"]): effects.Ways(row["answers"], row["reminders"])
        for world in worlds
        for row in _rows(world.folder / "people.parquet")
    }


def _add(truth: Truth, row: Mapping[str, Any]) -> None:
    member = Member(row["site"], row["pseudonym"], row["dispense"])
    held = truth.corrected if row["disposition"] == CORRECTED else truth.exposures
    held.setdefault(row["lot"], {})[member] = row["disposition"]
    if row["certainty"] == "possible":
        truth.possible.setdefault(row["lot"], set()).add(member)


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        raw: Mapping[str, Any] = json.loads(path.read_text())
    except ValueError:
        raise Failure(f"{path} is not readable JSON; start again with 'make clean'") from None
    return raw


def _fault(item: Mapping[str, Any]) -> Fault:
    return Fault(
        kind=item["kind"],
        tags=frozenset(item["tags"]),
        onset=datetime.fromisoformat(item["onset_at"]),
        sample_seconds=item["sample_seconds"],
    )


def _rows(path: Path, lots: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a table; only those of some lots, if any are named."""
    try:
        # Here, and not above: it takes longer to load than every other command takes to run.
        parquet = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise Failure("reading the truth needs pyarrow: install pharmaloop[world]") from None
    filters = None if lots is None else [("lot", "in", lots or [""])]
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path, filters=filters).to_pylist()
    except FileNotFoundError:
        raise Failure(f"{path} does not exist; start again with 'make clean'") from None
    return rows
