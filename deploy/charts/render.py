"""Render the charts as `helm install` would, without a cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.local.kube_tools import helm

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
UMBRELLA, BACKBONE, LIBRARY = (
    CHARTS / name for name in ("pharmaloop", "pharmaloop-kafka", "pharmaloop-service")
)
EXAMPLES = UMBRELLA / "examples"
RELEASE, NAMESPACE = "pharmaloop", "pharma"
#: What Helm tells about the library's link, at every call.
_LINK = "found symbolic link in path"
Document = dict[str, Any]


class RenderError(Exception):
    """Helm refused; the message is its own."""


def variants() -> list[str]:
    """Names of the examples that are supported and held."""
    return sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def environment() -> dict[str, str]:
    """What helm is run with: it has rendered before Go's collector could give back what it takes, 120 MB."""
    return {**os.environ, "GOGC": "off"}


def run(*arguments: str) -> str:
    """Run helm; RenderError tells what it said."""
    command = [str(helm()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    said = "\n".join(line for line in done.stderr.splitlines() if _LINK not in line)
    if done.returncode:
        raise RenderError(f"{done.stdout}{said}")
    return done.stdout


def template(chart: Path, values: Sequence[Path] = (), sets: Sequence[str] = ()) -> str:
    """The chart's resources as text; `sets` are as for `helm --set-json`."""
    files = [word for path in values for word in ("--values", str(path))]
    single = [word for one in sets for word in ("--set-json", one)]
    return run("template", RELEASE, str(chart), "--namespace", NAMESPACE, *files, *single)


def notes(chart: Path, values: Sequence[Path]) -> str:
    """What a user is told after an installation."""
    files = [word for path in values for word in ("--values", str(path))]
    said = run("install", RELEASE, str(chart), "--namespace", NAMESPACE, "--dry-run=client", *files)
    return said.partition("\nNOTES:\n")[2]


def lint(chart: Path, values: Sequence[Path] = ()) -> str:
    """What `helm lint --strict` says; RenderError where it finds something."""
    files = [word for path in values for word in ("--values", str(path))]
    return run("lint", "--strict", str(chart), *files)


def documents(text: str) -> list[Document]:
    """The resources of a rendered text."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]
