"""The truth on disk, against a walk that shares no code with it; and who may read it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import services.world
from services.world import truth
from services.world.records import World
from services.world.rows import world_tables
from services.world.tables import write_folder
from services.world.truth import truth_tables, write_truth, write_world

ROOT = Path(services.world.__file__).parent


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_truth(world, tmp_path_factory.mktemp("state") / "world")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(folder / f"{name}.parquet").to_pylist()
    return found


def upward(world: World) -> dict[tuple[str, str], tuple[str, str, str]]:
    """(lot, dispense) -> (pseudonym, certainty, disposition): from each record up to everything inside."""
    inputs: dict[str, list[str]] = {}
    for item in world.materials:
        inputs.setdefault(item.lot, []).extend(item.inputs)

    def climb(lot: str, reached: set[str]) -> set[str]:
        reached.add(lot)
        for used in inputs.get(lot, ()):
            if used not in reached:
                climb(used, reached)
        return reached

    became = {
        item.dispense.dispense: "RETURNED" if item.opened else "RETURNED_UNOPENED" for item in world.returns()
    }
    told = {item.dispense: (item, became.get(item.dispense, "")) for item in world.dispenses}
    feeds = [pharmacy.feed for pharmacy in world.pharmacies] + [hospital.feed for hospital in world.hospitals]
    for correction in (correction for feed in feeds for correction in feed.corrections):
        told[correction.wrong.dispense] = (correction.wrong, "CORRECTED")
    found = {}
    for one, disposition in told.values():
        ways = [climb(lot, set()) for lot in (one.lot, *one.possible_lots)]
        for lot in set().union(*ways):
            sure = "certain" if all(lot in way for way in ways) else "possible"
            found[lot, one.dispense] = (one.pseudonym, sure, disposition)
    return found


def test_exposures_equal_the_walk_upwards(world: World, folder: Path) -> None:
    told = rows(folder, "exposures")
    found = {
        (row["lot"], row["dispense"]): (row["pseudonym"], row["certainty"], row["disposition"])
        for row in told
    }
    assert len(found) == len(told)
    assert found == upward(world)
    assert {row["certainty"] for row in told} == {"certain", "possible"}
    assert {row["disposition"] for row in told} == {"", "RETURNED", "RETURNED_UNOPENED", "CORRECTED"}


def test_what_was_taken_is_what_the_pack_truly_was(world: World, folder: Path) -> None:
    harmed = {(harm.site, harm.pseudonym, harm.lot) for harm in world.harms}
    faulty = {lot.lot for line in world.lines for lot in line.lots if lot.faulty}
    taken = {
        (row["site"], row["pseudonym"], row["lot"])
        for row in rows(folder, "exposures")
        if row["taken"] and row["pseudonym"] and row["lot"] in faulty
    }
    assert taken == harmed


def test_the_summary_names_every_fault(world: World, folder: Path) -> None:
    summary = json.loads((folder / "truth.json").read_text())
    lots = {lot.lot: lot for line in world.lines for lot in line.lots}
    assert summary["sites"] == ["hospital-a", "hospital-b", "hospital-c"]
    assert summary["live"] == [lot.lot for lot in lots.values() if lot.live]
    planted = {item["lot"]: item for item in summary["planted"]}
    assert set(planted) == {lot.lot for lot in lots.values() if lot.faulty}
    for item in (*summary["planted"], *summary["nuisances"]):
        fault = lots[item["lot"]].fault
        assert fault
        assert item["tag"] == fault.tag
        assert item["tag"] in item["tags"]
        assert item["kind"] == fault.kind
        assert item["magnitude"] == fault.magnitude


def test_the_onset_is_the_first_sample_that_differs(world: World) -> None:
    """The readings of a fault and of the same run without it, against the time that the truth gives."""
    from dataclasses import replace

    from services.world.processes import SAMPLE, profile
    from services.world.signals import Model

    model = Model(
        {"DryerTemp": (1.0,), "JacketTemperature": (1.0,), "DryerPressure": (1.0,), "AgitatorPower": (1.0,)}
    )
    for line in world.lines:
        planted = {row.lot: row for row in truth.faults(world)}
        for lot in (lot for lot in line.lots if lot.fault):
            assert lot.fault
            tag, step = lot.fault.tag, SAMPLE[line.process]
            faulty = profile(line.process, lot, model)[tag]
            sound = profile(line.process, replace(lot, fault=None), model)[tag]
            first = next(
                place for place, pair in enumerate(zip(faulty, sound, strict=True)) if pair[0] != pair[1]
            )
            onset = (planted[lot.lot].onset_at - lot.started) / step
            assert 0 <= first - onset <= (12 if lot.fault.kind == "contamination" else 1)


def test_every_table_says_what_the_world_holds(world: World, tmp_path: Path) -> None:
    write_world(world, tmp_path)
    counts = {"materials": len(world.materials), "shipments": len(world.shipments),
              "observations": len(world.observations), "notices": len(world.notices)}  # fmt: skip
    assert {name: len(rows(tmp_path / "world", name)) for name in counts} == counts
    assert {path.stem for path in (tmp_path / "world").glob("*.parquet")} == set(world_tables(world))
    assert {path.stem for path in (tmp_path / "truth").glob("*.parquet")} == set(truth_tables(world))
    people = rows(tmp_path / "truth", "people")
    assert len(people) == sum(len(hospital.bodies) for hospital in world.hospitals)
    kinds = {row["kind"] for row in rows(tmp_path / "truth", "incidents")}
    assert kinds >= {"late", "never recorded", "recorded twice", "wrong lot", "opened packs", "late material"}
    lots = {row["lot"]: row for row in rows(tmp_path / "truth", "lots")}
    assert set(lots) == {item.lot for item in world.materials}


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    class Broken:
        """No table: writing it fails."""

    folder = tmp_path / "truth"
    write_folder(folder, {}, {"truth.json": "old"})
    with pytest.raises(AttributeError):
        write_folder(folder, {"lots": Broken()}, {"truth.json": "new"})
    assert (folder / "truth.json").read_text() == "old"
    write_folder(folder, {}, {"truth.json": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["truth"]
    assert (folder / "truth.json").read_text() == "new"


def test_no_actor_can_reach_the_truth() -> None:
    """Neither an actor nor anything it imports of the world imports the truth or opens its files."""
    names = ("truth", "exposure", "mishap_rows", "true_plant", "worldgen.treatment")
    secret = {f"services.world.{name}" for name in names}
    for path in sorted((ROOT / "actors").glob("*.py")):
        reached = _reached(f"services.world.actors.{path.stem}", set())
        assert not reached & secret, path.name
        assert not [name for name in reached if "truth" in _strings(name)], path.name


def test_no_actor_is_given_what_only_the_world_knows() -> None:
    """The lot that an opened pack truly was of, and who was harmed, are in nobody's slice."""
    for path in sorted((ROOT / "actors").glob("*.py")):
        imported = _imports(path.read_text())
        assert not imported & {f"services.world.records.{name}" for name in ("Opened", "Harm", "World")}


def test_the_world_knows_the_services_only_by_their_contract() -> None:
    """What a lot truly is excepted: the twin's own equations, with numbers that the twin does not know."""
    for path in ROOT.rglob("*.py"):
        for name in _imports(path.read_text()):
            if path.stem == "true_plant" and name.startswith("services.production.domain.twin"):
                continue
            if name.startswith("services."):
                assert name.startswith(("services.world", "services.kit")), f"{path.name} imports {name}"


def _source(module: str) -> str:
    path = ROOT.joinpath(*module.split(".")[2:])
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    return file.read_text()


def _strings(module: str) -> str:
    """The text constants of a module that are no docstrings."""
    tree = ast.parse(_source(module))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return " ".join(text for text in texts if isinstance(text, str) and text not in docs)


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
