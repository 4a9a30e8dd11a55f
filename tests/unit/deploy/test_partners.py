"""What partners download is what the code is: reference, table of errors, bundle."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stamps import ROOT
from deploy.partners import errors, kit, reference

REMEDY = "the generated pages are old: run 'make partner-kit'"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit, built once."""
    return kit.build(tmp_path_factory.mktemp("dist"))


def test_the_reference_is_made_from_the_contract_as_it_is() -> None:
    assert reference.stale(reference.PAGES, reference.make()) == [], REMEDY


def test_the_reference_describes_every_call_with_its_comment() -> None:
    page = reference.make()["traceability.v1.md"]
    row = "| `RecordDispense` | [RecordDispenseRequest](#recorddispenserequest) |"
    assert row in page
    assert "Records dispenses to patients." in page
    # A type of another package leads to that package's page.
    assert "[PositionVector](common.v1.md#positionvector)" in page


def test_the_table_of_errors_is_what_the_code_can_say() -> None:
    page = errors.PAGE.read_text()
    assert errors.in_page(page, errors.table(errors.reasons())) == page, REMEDY


def test_reasons_are_found_with_status_and_sentence() -> None:
    found = {(one.reason, one.code): one for one in errors.reasons()}
    lot = found["NOT_CANONICAL", "INVALID_ARGUMENT"]
    assert "kit" in lot.services
    assert lot.meaning == "… is not a canonical key; write it as …, each part percent-encoded."
    # A sentence in a variable, and an error of a domain that becomes one of the platform.
    judged = found["ALREADY_JUDGED", "FAILED_PRECONDITION"]
    assert judged.services == ("production",)
    assert "a judgement is not changed" in judged.meaning


def test_every_reason_that_a_service_refuses_with_is_in_the_table() -> None:
    """Found another way than the table is made: by the classes that descend from a refusal."""
    known = {one.reason for one in errors.reasons()}
    missing = {
        f"{path.relative_to(ROOT)}:{line} {reason}"
        for path, line, reason in _refusals()
        if reason not in known and not errors.of_operators(path) and reason not in errors.NOT_ANSWERED
    }
    assert missing == set()


def test_the_reasons_of_every_service_are_there() -> None:
    """One that no other service answers with."""
    by = {service for one in errors.reasons() for service in one.services}
    services = {path.parent.name for path in (ROOT / "services").glob("*/api.py")}
    assert by == services | {"kit"}
    assert {one.reason for one in errors.reasons()} >= {"EPSILON_SPENT", "KNOWN_STRUCTURE", "SAME_PERSON"}


def _refusals() -> Iterator[tuple[Path, int, str]]:
    """Place and reason of each refusal that is made in the code of a service, or of their kit."""
    folders = [path.parent for path in (ROOT / "services").glob("*/api.py")]
    files = [
        path for folder in (*folders, ROOT / "services" / "kit") for path in sorted(folder.rglob("*.py"))
    ]
    trees = {path: ast.parse(path.read_text()) for path in files}
    bases = [
        (node.name, {ast.unparse(base).rpartition(".")[2] for base in node.bases})
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    refusing = {"Rejected", "Refusal", "Refused", "Malformed", "Breach"}
    while more := {name for name, of in bases if of & refusing} - refusing:
        refusing |= more
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in refusing:
                for given in node.args[:2]:
                    if isinstance(given, ast.Constant) and re.fullmatch(r"[A-Z][A-Z0-9_]+", str(given.value)):
                        yield path, node.lineno, str(given.value)


def test_two_builds_have_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = kit.build(tmp_path)
    assert again.read_bytes() == bundle.read_bytes()
    digest, name = bundle.with_suffix(".zip.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(bundle.read_bytes()).hexdigest(), bundle.name)


def test_the_stubs_stand_alone(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as files:
        (name,) = (one for one in files.namelist() if one.endswith(".whl"))
        with zipfile.ZipFile(files.open(name)) as stubs:
            stubs.extractall(tmp_path)
    asked = "from pharmaloop.production.v1 import service_pb2_grpc as s; print(s.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", asked],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.startswith(str(tmp_path))
    assert not list(tmp_path.rglob("services"))


def test_the_kit_names_no_place_of_this_machine(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as files:
        naming = [one for one in files.namelist() if str(ROOT).encode() in files.read(one)]
    assert naming == []
