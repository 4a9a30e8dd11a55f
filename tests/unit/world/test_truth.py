"""The truth on disk, against a walk that shares no code with it; and who may read it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import services.world
from services.world.entities import World
from services.world.truth import truth_of, write_truth

ROOT = Path(services.world.__file__).parent


def upward(world: World) -> dict[str, set[tuple[str, str, str]]]:
    """From each dispense up to everything inside the pack: the walk the other way round."""
    inputs = {material.lot: material.inputs for material in world.materials}
    found: dict[str, set[tuple[str, str, str]]] = {lot: set() for lot in inputs}

    def climb(lot: str, member: tuple[str, str, str]) -> None:
        found[lot].add(member)
        for used in inputs[lot]:
            climb(used, member)

    for dispense in world.dispenses:
        climb(dispense.lot, (world.site, dispense.pseudonym, dispense.dispense))
    return found


def test_truth_equals_the_walk_upwards(world: World) -> None:
    told = truth_of(world)["exposures"]
    assert {lot: {tuple(row) for row in rows} for lot, rows in told.items()} == upward(world)
    assert all(len(rows) == len({tuple(row) for row in rows}) for rows in told.values())


def test_truth_names_every_fault(world: World, tmp_path: Path) -> None:
    told = json.loads(write_truth(world, tmp_path / "world").read_text())
    planted = {fault["lot"]: fault for fault in told["planted"]}
    for lot in world.dryer_lots:
        assert (lot.lot in planted) == bool(lot.fault)
        if lot.fault:
            assert planted[lot.lot]["tag"] == lot.fault.tag
            assert planted[lot.lot]["magnitude"] == lot.fault.magnitude
            assert told["exposures"][lot.lot]
    assert told["live"] == [lot.lot for lot in world.dryer_lots if lot.live]


def test_no_actor_can_reach_the_truth() -> None:
    """Neither an actor nor anything it imports of the world imports the truth or opens its file."""
    for path in sorted((ROOT / "actors").glob("*.py")):
        reached = _reached(f"services.world.actors.{path.stem}", set())
        assert "services.world.truth" not in reached, path.name
        assert not [name for name in reached if "truth.json" in _source(name)], path.name


def test_the_world_knows_the_services_only_by_their_contract() -> None:
    for path in ROOT.rglob("*.py"):
        for name in _imports(path.read_text()):
            if name.startswith("services."):
                assert name.startswith(("services.world", "services.kit")), f"{path.name} imports {name}"


def _source(module: str) -> str:
    path = ROOT.joinpath(*module.split(".")[2:])
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    return file.read_text()


def _imports(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _reached(module: str, seen: set[str]) -> set[str]:
    seen.add(module)
    for name in _imports(_source(module)):
        path = ROOT.joinpath(*name.split(".")[2:])
        is_module = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
        if name.startswith("services.world.") and is_module and name not in seen:
            _reached(name, seen)
    return seen
