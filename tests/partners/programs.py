"""Builds the example programs from the kit, as a partner does, and runs them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.partners import kit

#: The first is tried with every change; the others are compiled.
LANGUAGES = ("python", "go", "java")
#: The programs that a language is built with, and how to get what is missing.
_TOOLS = {
    "python": {},
    "go": {"go": "install Go 1.26 or newer"},
    "java": {"java": "install a JDK, 17 or newer", "mvn": "install Maven 3.8 or newer"},
}
_BUILD_SECONDS = 600


@dataclass(frozen=True)
class Program:
    """An example that is ready to run: the same arguments and the same output in every language."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    async def start(self, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command,
            *arguments,
            cwd=folder,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, folder: Path, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output, and what was said on the error stream."""
        process = await self.start(folder, *arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


def unpack(folder: Path) -> Path:
    """Build the kit and unpack it; answers its top folder."""
    with zipfile.ZipFile(kit.build(folder / "dist")) as files:
        files.extractall(folder)
    (top,) = folder.glob("partner-kit-*")
    return top


def built(language: str, top: Path) -> Program:
    """The example of a language, built in the unpacked kit; the test fails where a tool is missing."""
    for tool, remedy in _TOOLS[language].items():
        if shutil.which(tool) is None:
            pytest.fail(f"the {language} example needs '{tool}': {remedy}", pytrace=False)
    return {"python": _python, "go": _go, "java": _java}[language](top)


def _python(top: Path) -> Program:
    stubs = top / "stubs"
    (wheel,) = (top / "python").glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(stubs)
    return Program((sys.executable, str(top / "examples/python/partner.py")), {"PYTHONPATH": str(stubs)})


def _go(top: Path) -> Program:
    folder = top / "examples/go"
    _make(folder, str(Path(sys.executable).with_name("buf")), "generate")
    _make(folder, "go", "build", "-o", "bin/partner", ".")
    return Program((str(folder / "bin/partner"),))


def _java(top: Path) -> Program:
    folder = top / "examples/java"
    _make(folder, "mvn", "--quiet", "--batch-mode", "package")
    return Program(("java", "-XX:TieredStopAtLevel=1", "-jar", str(folder / "target/partner.jar")))


def _make(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}", pytrace=False)
