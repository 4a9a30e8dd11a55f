"""docs/data-formats.md says what the code does: its tables are the declarations, its examples are fed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from services.cli.feed import readings
from services.cli.feed.columns import Column
from services.cli.feed.dispenses import DISPENSES
from services.cli.feed.mapping import Mapping
from services.cli.feed.materials import MATERIALS
from services.cli.feed.patients import PATIENTS
from services.cli.feed.results import RESULTS
from services.cli.feed.units import ALIASES
from services.kit.units import convertible
from tests.unit.cli.support import Bench

DOC = Path(__file__).parents[4] / "docs" / "data-formats.md"
TEXT = DOC.read_text(encoding="utf-8")
COLUMNS = {noun.name: noun.columns for noun in (MATERIALS, DISPENSES, PATIENTS, RESULTS)} | {
    readings.NAME: readings.COLUMNS
}
FILES = dict(re.findall(r"^```(?:csv|yaml) (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = [
    line.strip()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def table_of(columns: tuple[Column, ...]) -> str:
    """The table of a noun's columns, to be put between the marks of the page."""
    lines = ["| column | kind | meaning | for example | also called |", "|---|---|---|---|---|"]
    for column in columns:
        mark = "**" if column.required else "*" if column.expected else ""
        name = f"{mark}{column.name}{mark}"
        cells = [name, column.kind.label, column.tells, f"`{column.example}`", ", ".join(column.synonyms)]
        lines.append("| " + " | ".join(cells) + " |")
    legend = "Bold: required."
    if any(column.expected for column in columns):
        legend += " Italic: to be found, or left out in the mapping; its cells may be empty."
    return "\n".join([*lines, "", legend])


@pytest.mark.parametrize("noun", COLUMNS)
def test_the_tables_are_the_declarations(noun: str) -> None:
    found = re.search(rf"<!-- columns: {noun} -->\n(.*?)\n*<!-- end -->", TEXT, re.DOTALL)
    assert found is not None
    assert found[1] == table_of(COLUMNS[noun]), f"put this there:\n{table_of(COLUMNS[noun])}"


def test_the_page_names_every_key_and_every_unit() -> None:
    said = TEXT.replace(";", ",")
    for group in convertible():
        assert ", ".join(group) in said
    for name in (*Mapping.__struct_fields__, *ALIASES):
        assert name in TEXT or name == "μg", name  # the Greek letter looks like the micro sign


@pytest.mark.parametrize("command", [line for line in COMMANDS if " feed " in line])
def test_every_example_is_good(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    program, *arguments = shlex.split(command)
    result = bench.run(*arguments, "--dry-run", "--json")
    assert (program, result.exit_code) == ("pharmaloop", 0), result.output
    (told,) = json.loads(result.stdout)["files"]
    assert told["rows"] == len(FILES[told["file"]].splitlines()) - 1
    assert bench.fake.requests == []


def test_the_lots_of_the_examples_are_one_chain(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was dispensed was made from what was measured: else the drill would find nobody."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def first(noun: str) -> list[dict[str, object]]:
        file = {"readings": "history"}.get(noun, noun)
        document = bench.json("feed", noun, f"{file}.csv", "-m", f"{file}.yaml", "--dry-run")
        found: list[dict[str, object]] = document["files"][0]["first"]
        return found

    made = {str(row["lot"]): row for row in first("materials")}
    (dispensed,) = {str(row["lot"]) for row in first("dispenses")}
    (measured,) = {str(row["lot"]) for row in first("readings")}
    assert dispensed in made
    assert measured in str(made[dispensed]["inputs"])


@pytest.mark.parametrize("noun", COLUMNS)
def test_a_template_names_every_column_and_is_a_mapping(bench: Bench, noun: str) -> None:
    text = bench.run("feed", noun, "--template").stdout
    assert yaml.safe_load(text) is None, "as it stands, it says nothing"
    keys = "|".join(Mapping.__struct_fields__)
    wanted = re.findall(rf"^# (?=(?:{keys}):)(.*)$|^# (  \S.*)$", text, re.MULTILINE)
    said = yaml.safe_load("\n".join(key or line for key, line in wanted))
    assert list(said["columns"]) == [column.name for column in COLUMNS[noun]]
    assert set(said["constants"]) <= set(said["columns"])
    assert set(said) <= set(Mapping.__struct_fields__)
