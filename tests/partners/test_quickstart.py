"""The quickstart as it stands there: its commands are copied into a shell, and say what the page says."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import uuid
from pathlib import Path

import pytest

from services.cli.conformance.checks import RIGHT
from services.cli.conformance.sandbox import Sandbox
from tests.partners.conftest import Platform
from tests.partners.programs import Program

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
PRODUCT = "maker-1/gtin/06901234500547"
SANDBOX = "127.0.0.1:7700"


def part(page: str, heading: str) -> tuple[list[str], list[str]]:
    """Commands and outputs of a part of the page, in their order."""
    (text,) = re.findall(rf"^## {heading}.*?$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for kind, block in blocks if kind == "sh"], [block for kind, block in blocks if not kind]


@pytest.fixture
def page(kit_folder: Path) -> str:
    return (kit_folder / "docs/partners/quickstart.md").read_text()


@pytest.fixture
def product() -> str:
    return f"maker-1/item/{uuid.uuid4().hex}"


@pytest.fixture
def folder(tmp_path: Path, kit_folder: Path, product: str) -> Path:
    """As `examples/python` of the kit, about lots of the test's own."""
    made = tmp_path / "examples" / "some-language"
    made.mkdir(parents=True)
    shutil.copy(kit_folder / "examples/dispenses.csv", made.parent)
    text = (made.parent / "dispenses.csv").read_text()
    (made.parent / "dispenses.csv").write_text(text.replace(PRODUCT, product))
    return made


async def shell(program: Program, folder: Path, commands: str, **variables: str) -> str:
    """What the commands print; `partner` is the program."""
    own = f'partner() {{ {shlex.join(program.command)} "$@"; }}\n'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", own + commands),
        cwd=folder,
        env={**os.environ, **program.environment, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert b"not found" not in err, err
    return out.decode()


def says(printed: str, page: str) -> bool:
    """Is it what the page shows? Three dots stand for the rest of a line, which may have quotation marks."""
    lines, shown = printed.replace('"', "").splitlines(), page.replace('"', "").splitlines()
    return len(lines) == len(shown) and all(
        line.startswith(wanted.partition("...")[0]) and ("..." in wanted or line == wanted)
        for line, wanted in zip(lines, shown, strict=True)
    )


@pytest.mark.req("B10")
async def test_dispenses_are_sent_and_the_dossier_is_read(
    program: Program, platform: Platform, folder: Path, product: str, page: str
) -> None:
    trace = f"127.0.0.1:{platform.trace_port}"
    (commands,), (shown,) = part(page, "2. Send dispenses")
    printed = await shell(program, folder, commands, TRACE=trace)
    assert says(printed, shown), printed

    (commands,), (shown, _) = part(page, "4. Read a dossier")
    async with asyncio.timeout(30):
        while True:
            printed = await shell(program, folder, commands.replace(PRODUCT, product), TRACE=trace)
            if "dispensed  yes" in printed:
                break
    assert says(printed, shown.replace(PRODUCT, product)), printed


@pytest.mark.req("B10")
async def test_a_held_lot_is_heard(
    program: Program, platform: Platform, folder: Path, product: str, page: str
) -> None:
    await platform.hold(f"{product}/H-1", "cracked vials")
    (commands,), (shown,) = part(page, "3. Hear about held lots")
    printed = await shell(program, folder, commands, PLANT=f"127.0.0.1:{platform.plant_port}")
    form = re.sub(r"\S+/\S+/\S+/\S+", r"\\S+", re.sub(r"20\S+Z", r"20\\S+Z", shown))
    form = form.replace("cracked vials", ".+")
    assert re.fullmatch(f"({form})+", printed), printed  # whatever one answer tells


@pytest.mark.req("B10")
async def test_the_sandbox_says_that_all_is_right(program: Program, folder: Path, page: str) -> None:
    (_, commands), _ = part(page, "5. Is your program safe")
    sandbox = Sandbox(quiet_seconds=0)  # the program has ended when it is judged
    port = sandbox.start("127.0.0.1:0")
    try:
        assert SANDBOX in commands
        await shell(program, folder, commands.replace(SANDBOX, f"127.0.0.1:{port}"))
        assert [one for one in sandbox.verdicts() if one.outcome != RIGHT] == []
    finally:
        sandbox.stop()
