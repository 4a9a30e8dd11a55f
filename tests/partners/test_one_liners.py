"""Every command of the page for the command line, run against real services, by grpcurl and by buf."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stamps import ROOT
from tests.partners.conftest import Platform

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]
PRODUCT = "maker-1/gtin/06901234500547"
TOOLS = ("grpcurl", "buf")
#: grpcurl is built from its source where a checkout lacks it.
EACH_TOOL = pytest.mark.parametrize("tool", [pytest.param("grpcurl", marks=pytest.mark.long), "buf"])
_PARTS = re.compile(r"^(?:\*\*(.*?)\*\*.*?$)|^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_POSITIONS = re.compile(r'("min_position": )\{.*\]\}', re.DOTALL)
#: What a tool ends with when the deadline of a call passes.
_DEADLINE = {"grpcurl": 64 + 4, "buf": 4 << 3}
_INVALID = {"grpcurl": 64 + 3, "buf": 3 << 3}
_INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Section:
    """A heading of the page, what it sets, and the commands below it."""

    title: str
    sets: str
    commands: tuple[str, ...]

    def of(self, tool: str) -> list[str]:
        return [one for one in self.commands if tool_of(one) == tool]


def tool_of(command: str) -> str:
    word = command.split(maxsplit=1)[0]
    return {"$G": "grpcurl", "$B": "buf"}.get(word, word)


def statements(block: str) -> Iterator[str]:
    """The commands of a block: a quotation goes over lines."""
    held = ""
    for line in block.splitlines():
        held = f"{held}\n{line}" if held else line
        if held.count("'") % 2 == 0 and not held.endswith("\\"):
            yield held
            held = ""
    assert not held


def sections(page: str) -> list[Section]:
    """The sections in their order; the first sets what the others use."""
    made, title = [], ""
    for heading, block in _PARTS.findall(page):
        if heading:
            title = heading
            continue
        found = list(statements(block))
        sets = [one for one in found if re.match(r"[A-Z]+=", one)]
        made.append(Section(title, "\n".join(sets), tuple(one for one in found if one not in sets)))
    return made


@pytest.fixture
def path(tool: str) -> str:
    """Where the tools are; grpcurl is installed for this checkout where it is wanted and missing."""
    folder = ROOT / ".tools" / "go"
    if tool == "grpcurl" and not (folder / "grpcurl").exists():
        page = (ROOT / "docs/partners/one-liners.md").read_text()
        install = re.search(r"`go install (\S+)`", page)
        assert install
        done = subprocess.run(
            ["go", "install", install.group(1)],
            env={**os.environ, "GOBIN": str(folder)},
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"grpcurl could not be installed: {done.stderr}"
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@dataclass
class Shell:
    """Runs what the page says, in the kit's folder."""

    folder: Path
    path: str
    platform: Platform
    product: str
    page: list[Section]
    positions: dict[str, Any] | None = None

    async def run(self, title: str, tool: str) -> tuple[int, str, str]:
        """The commands of a section that are a tool's, after what the page sets for it."""
        (section,) = (one for one in self.page if one.title == title)
        lines = [self._sets(self.page[0].sets), self._sets(section.sets), *section.of(tool)]
        process = await asyncio.create_subprocess_exec(
            *("bash", "-ec", "\n".join(lines)),
            cwd=self.folder,
            env={**os.environ, "PATH": self.path},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def _sets(self, text: str) -> str:
        """With the addresses of the test, a product of its own, and the positions of its receipt."""
        ports = f"TRACE=127.0.0.1:{self.platform.trace_port} PLANT=127.0.0.1:{self.platform.plant_port}"
        text = re.sub(r"TRACE=\S+ PLANT=\S+", ports, text).replace(PRODUCT, self.product)
        if self.positions:
            return _POSITIONS.sub(lambda found: found[1] + json.dumps(self.positions), text)
        return text


def documents(text: str) -> list[Any]:
    """The JSON documents that stand one after the other."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


@pytest.fixture
def shell(kit_folder: Path, path: str, platform: Platform) -> Shell:
    page = (kit_folder / "docs/partners/one-liners.md").read_text()
    return Shell(kit_folder, path, platform, f"maker-1/gtin/{uuid.uuid4().hex}", sections(page))


async def test_every_command_is_there_for_both_tools() -> None:
    first, *others = sections((ROOT / "docs/partners/one-liners.md").read_text())
    assert first.commands == ()
    assert [one.title for one in others] == [
        "What is there",
        "Record a dispense.",
        "Read it back",
        "A lot's dossier",
        "Held lots",
        "What a refusal looks like.",
    ]
    for one in others:
        assert {tool_of(command) for command in one.commands} == set(TOOLS), one.title


@EACH_TOOL
async def test_what_is_there(shell: Shell, tool: str) -> None:
    code, out, err = await shell.run("What is there", tool)
    assert code == 0, err
    assert "pharmaloop.traceability.v1.TraceabilityService" in out


@EACH_TOOL
async def test_a_dispense_is_recorded_once_and_read_back(shell: Shell, tool: str) -> None:
    for _ in range(2):
        code, out, err = await shell.run("Record a dispense.", tool)
        assert code == 0, err
        receipt = json.loads(out)["receipt"]
        assert receipt["accepted"] in (1, "1")
        shell.positions = receipt["positions"]
    code, out, err = await shell.run("Read it back", tool)
    assert code == 0, err
    assert json.loads(out)["lot"] == f"{shell.product}/A-0001"
    assert str(json.loads(out)["dispenses"]) == "1"

    code, out, err = await shell.run("A lot's dossier", tool)
    assert code == 0, err
    assert json.loads(out)["dossier"]["lot"] == f"{shell.product}/A-0001"


@EACH_TOOL
async def test_held_lots_are_heard_until_the_deadline(shell: Shell, tool: str) -> None:
    lot = f"{shell.product}/H-{tool}"
    await shell.platform.hold(lot, "cracked vials")
    code, out, err = await shell.run("Held lots", tool)
    assert code == _DEADLINE[tool], err
    assert "deadline" in err.lower()
    heard = [change for one in documents(out) for change in one.get("changes", [])]
    (held,) = (change for change in heard if change["lot"] == lot)
    assert (held["state"], held["reason"]) == ("LOT_STATE_HELD", "cracked vials")
    assert documents(out)[-1]["position"]["positions"]


@EACH_TOOL
async def test_a_refusal_says_reason_and_field(shell: Shell, tool: str) -> None:
    code, out, err = await shell.run("What a refusal looks like.", tool)
    assert code == _INVALID[tool], out
    details = [base64.b64decode(f"{one}===") for one in re.findall(r'"@?value": "([^"]+)"', err)]
    assert any(b"NOT_CANONICAL" in one and b"field" in one for one in details)
    assert "owner/scheme/item/lot" in err
