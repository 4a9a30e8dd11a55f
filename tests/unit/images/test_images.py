"""What goes into an image, and what the Dockerfile says of it. Building one takes minutes: `make images`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import babel
import pytest

from deploy.images import fill, sbom
from deploy.images.catalogue import IMAGES, PLATFORM, SCIENTIFIC, SERVICES, USER, Image
from deploy.images.smoke import Root
from deploy.local.plan import PORTAL, ROOT, program_of
from deploy.local.plan import SERVICES as PROCESSES

FOLDER = ROOT / "deploy" / "images"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCIENCE = {"production", "clinical", "exchange", "rnd", "cli", "platform"}
DPKG = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u14

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([\w.-]+)(?:\[.+?\])?==(\S+)", text, flags=re.MULTILINE))


def test_the_dockerfile_is_as_a_linter_wants_it() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_finds_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.replace("WORKDIR /src", "WORKDIR src"))
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, wrong], capture_output=True, text=True, check=False)
    assert "DL3000" in done.stdout


def test_the_base_is_pinned_and_can_be_replaced() -> None:
    default = re.findall(r"^ARG BASE_IMAGE=(\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert len(default) == 1
    assert re.search(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}$", default[0])
    stages = re.findall(r"^FROM (.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert stages == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]


def test_an_image_runs_as_nobody_and_as_the_charts_say() -> None:
    assert DOCKERFILE.rpartition("\nUSER ")[2].split("\n")[0] == USER
    assert int(USER.split(":")[0]) > 0


def test_every_process_has_an_image() -> None:
    for process in (*PROCESSES, PORTAL):
        package = program_of(process).split(".")[1]
        assert package in IMAGES, process
        assert package in PLATFORM.packages, process


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_installs_what_the_project_says_that_it_needs(name: str) -> None:
    image = IMAGES[name]
    for extra, file in zip(image.extras, image.lists, strict=True):
        assert extra in PROJECT["optional-dependencies"]
        assert pins(file).items() <= pins("all.txt").items()


@pytest.mark.parametrize("name", IMAGES)
def test_who_computes_no_matrices_has_nothing_that_does(name: str) -> None:
    found = {package for file in IMAGES[name].lists for package in pins(file)}.intersection(SCIENTIFIC)
    assert bool(found) == (name in SCIENCE)


@pytest.mark.parametrize("image", SERVICES, ids=lambda image: image.name)
def test_a_service_imports_nothing_that_its_image_lacks(image: Image) -> None:
    sources = [*(ROOT / "services" / "kit").rglob("*.py"), *(ROOT / "services" / image.name).rglob("*.py")]
    texts = [file.read_text() for file in sources if "testing" not in file.parts]
    names = {
        name for text in texts for name in re.findall(r"^\s*(?:from|import) services\.(\w+)", text, re.M)
    }
    shared = {module.stem for module in (ROOT / "services").glob("*.py")}
    assert names <= {"kit", *shared, *image.packages}
    assert not [
        text for text in texts if re.search(r"^\s*(?:from|import) services\.kit\.testing", text, re.M)
    ]


def test_files_that_code_reads_are_installed_with_it() -> None:
    """Beside modules, a wheel holds what the project names and nothing else."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    portal = ROOT / "services" / "portal"
    # In a project's file `**` means files as well.
    wholly = [pattern.replace("**", "**/*") for pattern in told["services.portal"]]
    patterns = [portal.glob(pattern) for pattern in wholly]
    named = {file for found in patterns for file in found} | {ROOT / "services" / "__init__.py"}
    assert "topics.yaml" in told["pharmaloop"]
    for file in (ROOT / "services").rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc", ".md", ".pyi"):
            assert file in named, file


def test_what_installs_is_what_the_lock_holds() -> None:
    build = dict(re.findall(r"^([\w-]+)==(\S+)", (FOLDER / "build.txt").read_text(), flags=re.MULTILINE))
    assert set(build) == {"pip", "setuptools"}
    assert build["setuptools"] == pins("all.txt")["setuptools"]


@pytest.mark.parametrize("name", ["alerting", "cli", "platform"])
def test_the_projects_part_of_an_image(name: str, tmp_path: Path) -> None:
    fill.copy_parts(IMAGES[name], tmp_path)
    packages = {folder.name for folder in (tmp_path / "services").iterdir() if folder.is_dir()}
    assert packages == {"kit", *IMAGES[name].packages}
    modules = {file.name for file in (tmp_path / "services").glob("*.py")}
    assert modules == {file.name for file in (ROOT / "services").glob("*.py")}
    assert not (tmp_path / "services" / "kit" / "testing").exists()
    assert (tmp_path / "proto" / "gen" / "pharmaloop" / "topics.yaml").exists()
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == PROJECT["scripts"]
    # A command whose code is not there would be listed and fail.
    assert ("entry-points" in project) == (name == "platform")


def test_an_unknown_image_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fill", "alertin", "/nowhere"])
    with pytest.raises(SystemExit, match="IMAGE: there is no image 'alertin'; choose one of production"):
        fill.main()


def test_the_list_of_parts_is_valid_and_complete(tmp_path: Path) -> None:
    # To load them takes seconds of every process that collects tests: the grammars of all formats are built.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    dpkg = tmp_path / "status"
    dpkg.write_text(DPKG)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.parent.mkdir(parents=True)
    packages.symlink_to(Path(pytest.__file__).parents[1])
    found = sbom.document(tmp_path, "alerting", "0.1.0", dpkg)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found)) is None
    parts = {part["purl"]: part for part in found["components"]}
    assert parts["pkg:pypi/grpcio@" + pins("all.txt")["grpcio"]]["licenses"]
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64" in parts
    assert not [purl for purl in parts if "/gone@" in purl]
    assert found["metadata"]["component"]["name"] == "pharmaloop-alerting"
    assert found == sbom.document(tmp_path, "alerting", "0.1.0", dpkg)


def test_a_smoke_run_takes_nothing_of_this_environment() -> None:
    root = Root(Path("/image"), Path("/state"), {"PATH": "/opt/pharmaloop/bin", "HOME": "/tmp"})
    script = root.command(["service", "--role", "all"], {"HOME": "/x y"})[-1]
    run = script.strip().splitlines()[-1]
    assert run == (
        "exec chroot --userspec=10001:10001 /image "
        "/usr/bin/env -i PATH=/opt/pharmaloop/bin 'HOME=/x y' service --role all"
    )
    assert "mount -o remount,bind,ro /image" in script


_PAGES = """
from services.portal.languages import Language
for code in ("en", "zh"):
    told = Language(code, "Asia/Shanghai")
    print(told.tag, told.number(1234567.8), told.percent(0.123), told.listed(["a", "b"]), told.say("Lots"))
"""


def _said(packages: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PAGES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": packages, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_an_image_keeps_the_languages_of_its_pages_and_no_others(tmp_path: Path) -> None:
    shutil.copytree(Path(babel.__file__).parent, tmp_path / "babel")
    (tmp_path / "babel" / "cpu.pyx").write_text("source")
    fill.trim(tmp_path)
    kept = {file.name for file in (tmp_path / "babel" / "locale-data").iterdir()}
    assert {"root.dat", "en.dat", "zh_Hans_CN.dat"} < kept
    assert not {"de.dat", "fr_FR.dat"} & kept
    assert not (tmp_path / "babel" / "cpu.pyx").exists()
    assert _said(str(tmp_path)) == _said("")
