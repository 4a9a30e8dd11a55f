"""The examples in Python, Go and Java against real services: same file, same words, same effect."""

from __future__ import annotations

import asyncio
import csv
import shutil
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.cli.conformance.checks import RIGHT
from services.cli.conformance.sandbox import Sandbox
from tests.partners.conftest import Platform
from tests.partners.programs import Program
from tests.reliability.proxy import Faults, Proxy

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
#: What the example file says of its rows: who is refused, why, and at which field.
REFUSED = [
    ("3", "NOT_CANONICAL", "lot"),
    ("5", "UNKNOWN_SITE", "site"),
    ("6", "NOT_A_MOMENT", "at"),
    ("7", "OUT_OF_RANGE", "quantity.value"),
]
ROWS, TAKEN = 8, 4
SUMMARY = f"dispenses.csv: {ROWS} rows, {TAKEN} taken, {ROWS - TAKEN} refused (dispenses.csv.rejects.csv)\n"


@pytest.fixture
def product() -> str:
    """A product of the test's own."""
    return f"maker-1/item/{uuid.uuid4().hex}"


@pytest.fixture
def folder(tmp_path: Path, kit_folder: Path, product: str) -> Path:
    """Where the program runs: the example's file is there, about lots of the test's own."""
    made = tmp_path / "partner"
    made.mkdir()
    text = (kit_folder / "examples/dispenses.csv").read_text()
    (made / "dispenses.csv").write_text(text.replace("maker-1/gtin/06901234500547", product))
    return made


@pytest.fixture
def proxy() -> Iterator[Callable[[int], Proxy]]:
    """Makes a network that a test can disturb, in front of a port."""
    made: list[Proxy] = []

    def before(port: int) -> Proxy:
        made.append(Proxy(port))
        made[-1].start()
        return made[-1]

    yield before
    for one in made:
        one.stop()


async def until(ask: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await ask():
            await asyncio.sleep(0.02)


def refused(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "dispenses.csv.rejects.csv").open(newline="") as file:
        return [(row["row"], row["reason"], row["field"]) for row in csv.DictReader(file)]


async def test_rows_have_one_effect_through_kills_and_lost_answers(
    program: Program,
    platform: Platform,
    folder: Path,
    product: str,
    proxy: Callable[[int], Proxy],
) -> None:
    slow = proxy(platform.trace_port)
    slow.set(Faults(latency=0.2))
    to = ("--actor", "pharmacy-1", "--batch", "2")
    progress = folder / "dispenses.csv.progress"

    process = await program.start(folder, "send", "dispenses.csv", "--to", f"127.0.0.1:{slow.port}", *to)

    async def first_rows() -> bool:
        return progress.exists()

    await until(first_rows)
    # Its second request is on the way, or has had its effect, and no answer comes any more.
    await asyncio.sleep(0.3)
    process.kill()
    await process.communicate()
    early, early_rejects = progress.read_text(), (folder / "dispenses.csv.rejects.csv").read_bytes()
    done_before = int(early.split()[1])
    assert 0 < done_before < ROWS

    slow.heal()
    straight = ("--to", f"127.0.0.1:{slow.port}", *to)
    code, out, err = await program.run(folder, "send", "dispenses.csv", *straight)
    assert (code, out) == (1, f"dispenses.csv: going on after row {done_before}\n{SUMMARY}"), err
    assert refused(folder) == REFUSED

    # Killed just before it wrote down how far it was: everything after that is sent again.
    shutil.copy(folder / "dispenses.csv.rejects.csv", folder / "rejects.before")
    progress.write_text(early)
    (folder / "dispenses.csv.rejects.csv").write_bytes(early_rejects + b"half a li")
    code, out, err = await program.run(folder, "send", "dispenses.csv", *straight)
    assert (code, out) == (1, f"dispenses.csv: going on after row {done_before}\n{SUMMARY}"), err
    assert (folder / "dispenses.csv.rejects.csv").read_bytes() == (folder / "rejects.before").read_bytes()

    async def all_there() -> bool:
        return await platform.dispenses(f"{product}/A-0001") >= TAKEN

    await until(all_there)
    # A later write to the same lot is folded: whatever was sent twice would have been seen by now.
    with (folder / "dispenses.csv").open("a") as file:
        file.write(f"RX-2001,{product}/A-0001,hospital-a,P-01-801,2026-03-13T09:30:00+08:00,28,{{tablet}}\n")
    code, _, err = await program.run(folder, "send", "dispenses.csv", *straight)
    assert code == 1, err

    async def one_more() -> bool:
        return await platform.dispenses(f"{product}/A-0001") > TAKEN

    await until(one_more)
    assert await platform.dispenses(f"{product}/A-0001") == TAKEN + 1


async def test_what_was_sent_to_one_place_is_not_taken_for_sent_to_another(
    program: Program, platform: Platform, folder: Path, product: str, proxy: Callable[[int], Proxy]
) -> None:
    """As a file that was tried on a sandbox first."""
    other = proxy(platform.trace_port)
    for port in (other.port, platform.trace_port):
        where = ("--to", f"127.0.0.1:{port}", "--actor", f"pharmacy-{port}")
        code, out, err = await program.run(folder, "send", "dispenses.csv", *where)
        assert (code, out) == (1, f"{SUMMARY}"), err
    early = (folder / "dispenses.csv.progress").read_text()
    _, out, _ = await program.run(folder, "send", "dispenses.csv", *where)
    assert out == SUMMARY
    assert (folder / "dispenses.csv.progress").read_text() == early


async def test_a_service_that_is_away_for_a_moment_is_asked_again(
    program: Program, platform: Platform, folder: Path, proxy: Callable[[int], Proxy]
) -> None:
    way = proxy(platform.trace_port)
    way.down()
    process = await program.start(folder, "send", "dispenses.csv", "--to", f"127.0.0.1:{way.port}")
    assert process.stderr is not None
    async with asyncio.timeout(30):
        assert b"UNAVAILABLE, again in" in await process.stderr.readline()
    way.up()
    out, err = await process.communicate()
    assert (process.returncode, out.decode()) == (1, SUMMARY), err


async def test_held_lots_are_heard_through_cuts_and_restarts(
    program: Program,
    platform: Platform,
    folder: Path,
    product: str,
    proxy: Callable[[int], Proxy],
) -> None:
    way = proxy(platform.plant_port)
    watch = ("watch", "--to", f"127.0.0.1:{way.port}", "--product", product)
    await platform.hold(f"{product}/H-1", "cracked vials")
    process = await program.start(folder, *watch)
    assert process.stdout is not None
    try:
        first = await asyncio.wait_for(process.stdout.readline(), 30)
        assert first.decode().startswith(f"held {product}/H-1 since 20")
        assert first.decode().endswith(": cracked vials\n")

        way.reset_peer()
        await platform.hold(f"{product}/H-2", "held while the stream was cut")
        second = await asyncio.wait_for(process.stdout.readline(), 30)
        assert f"held {product}/H-2 " in second.decode()
        # The position is stored after its changes were told.
        await asyncio.sleep(0.5)
    finally:
        process.kill()
        rest, err = await process.communicate()
    assert rest == b"", err

    await platform.hold(f"{product}/H-3", "held while nobody listened")
    code, out, err_ = await program.run(folder, *watch, "--count", "1")
    assert code == 0, err_
    assert [line.split()[1] for line in out.splitlines()] == [f"{product}/H-3"]


async def test_it_conforms(program: Program, folder: Path) -> None:
    sandbox = Sandbox(quiet_seconds=0)  # the program has ended when it is judged
    to = f"127.0.0.1:{sandbox.start('127.0.0.1:0')}"
    rows = (folder / "dispenses.csv").read_text().splitlines()
    now = datetime.now(timezone(timedelta(hours=8))).isoformat(timespec="seconds")
    row = rows[1].replace("2026-03-12T09:30:00+08:00", now)
    assert row != rows[1]
    good = [row.replace("RX-1001", f"RX-{number}") for number in range(6)]
    (folder / "rows.csv").write_text("\n".join([rows[0], *good, ""]))
    try:
        code, out, err = await program.run(folder, "send", "rows.csv", "--to", to, "--batch", "2")
        assert (code, out) == (1, "rows.csv: 6 rows, 5 taken, 1 refused (rows.csv.rejects.csv)\n"), err
        code, _, err = await program.run(folder, "watch", "--to", to)
        assert code == 2
        assert err.endswith("remove watch.position to begin anew\n")
        assert [one for one in sandbox.verdicts() if one.outcome != RIGHT] == []
    finally:
        sandbox.stop()


async def test_a_dossier_is_read(program: Program, platform: Platform, folder: Path, product: str) -> None:
    lot = f"{product}/A-0001"
    await platform.hold(lot, "cracked vials")
    to = ("--to", f"127.0.0.1:{platform.trace_port}")
    code, _, err = await program.run(folder, "send", "dispenses.csv", *to)
    assert code == 1, err

    async def told() -> bool:
        _, out, _ = await program.run(folder, "dossier", lot, *to)
        return "HELD" in out and "dispensed  yes" in out

    await until(told)
    code, out, err = await program.run(folder, "dossier", lot, *to)
    lines = out.splitlines()
    assert code == 0, err
    assert lines[:4] == [f"lot {lot}", "  state      held", "  dispensed  yes", "  made from  0 lots"]
    assert [line.split(" ", 3)[3] for line in lines[6:]] == ["STARTED", "COMPLETED", "HELD: cracked vials"]

    code, out, err = await program.run(folder, "dossier", f"{product}/none", *to)
    assert (code, out) == (2, "")
    assert err.startswith("partner: UNKNOWN_LOT: ")
    assert err.endswith("(field lot)\n")
