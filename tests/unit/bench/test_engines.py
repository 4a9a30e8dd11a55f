"""What a benchmark says that the engines take."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.bench_trace import DISPENSES, taken
from tests.bench.framework.engines import Engines, disk_bytes, processor_seconds


def test_bytes_are_those_that_are_written_and_not_the_holes(tmp_path: Path) -> None:
    (tmp_path / "topic-0").mkdir()
    with (tmp_path / "topic-0" / "0.log").open("wb") as log:
        log.write(b"x" * 100_000)
        log.flush()
        os.fsync(log.fileno())
    with (tmp_path / "topic-0" / "0.index").open("wb") as index:
        index.truncate(10_000_000)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1").write_bytes(b"y" * 50_000)
    assert 100_000 <= disk_bytes(tmp_path, ("journal",)) < 110_000
    assert disk_bytes(tmp_path) >= 100_000


def test_processor_time_is_that_of_the_process_which_worked() -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as busy:
        assert busy.stdout is not None
        assert busy.stdin is not None
        assert busy.stdout.readline() == "done\n"
        assert 0.4 < processor_seconds(busy.pid) < 5.0
        before = processor_seconds(busy.pid)
        time.sleep(0.2)
        assert processor_seconds(busy.pid) - before < 0.1, "it waits"
        busy.stdin.write("\n")


def test_what_was_there_before_is_not_counted() -> None:
    before = Engines(1_000, 5_000, {"kafka": 1.0, "mongod": 2.0, "traceability": 3.0})
    after = Engines(
        1_000 + 100 * DISPENSES,
        5_000 + 300 * DISPENSES,
        {"kafka": 1.0 + DISPENSES / 1e5, "mongod": 2.0 + DISPENSES / 1e4, "traceability": 3.0},
    )
    assert [(one.name, one.value, one.unit) for one in taken(before, after)] == [
        ("disk of Kafka per dispense", 100, "bytes"),
        ("disk of MongoDB per dispense", 300, "bytes"),
        ("processor time of the broker for 1,000 dispenses", 10, "ms"),
        ("processor time of the database for 1,000 dispenses", 100, "ms"),
        ("processor time of traceability for 1,000 dispenses", 0, "ms"),
    ]
