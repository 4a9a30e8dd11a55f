"""Backup and restore: speed out and back, and how long until a platform that was lost is as it was.

A log of so many facts and the view made of them are backed up while the view's
worker runs, and laid back into new engines, where a worker starts on them. The
view must then be that of every fact.
"""

from __future__ import annotations

import time

from services.cli.backup import work
from tests.bench.bench_projector import check, kit_projector, produce, until_folded
from tests.bench.framework import facts
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, row
from tests.bench.framework.run import option

COUNT = option("COUNT", 300_000)
_DATABASE = "pharmaloop_bench"
#: Facts that come after the backup, for the restored worker.
_MORE = 1_000


def run(machine: Machine) -> list[Row]:
    produce(machine, COUNT)
    worker = kit_projector(machine, _DATABASE)
    until_folded(worker, COUNT)
    folder = machine.folder / "backup"
    began = time.monotonic()
    made = work.make(work.Engines(machine.kafka, machine.mongo), folder)
    out = time.monotonic() - began
    worker.stop()
    began = time.monotonic()
    work.verify(folder)
    looked = time.monotonic() - began
    with Machine() as other:
        engines = work.Engines(other.kafka, other.mongo)
        began = time.monotonic()
        work.restore(engines, folder)
        back = time.monotonic() - began
        again = kit_projector(other, _DATABASE)
        again.told("folded")  # it stands on what was restored, and has asked the log
        up = time.monotonic() - began - back
        produce(other, _MORE, first=COUNT)
        until_folded(again, _MORE)
        check(other, [_DATABASE], COUNT + _MORE)
    what = f"{made.records:,} records, {made.documents:,} documents, {made.bytes / 1e6:.0f} MB in files"
    return [
        row("backup of a running platform", made.records / out, "records/s", note=f"{what}, {out:.1f} s"),
        row(
            "RPO beyond the time between two backups: from the begin of a backup until it is whole",
            (made.ended - made.begun).total_seconds(),
            "s",
            note="what is acknowledged before the begin is in it; databases are of a moment "
            f"{(made.databases_at - made.begun).total_seconds():.1f} s after it, topics of one "
            f"{(made.topics_at - made.begun).total_seconds():.1f} s after it",
        ),
        row("looking a backup over", made.records / looked, "records/s", note=f"{looked:.1f} s"),
        row(
            "RTO: from empty engines until a worker stands on what was restored",
            back + up,
            "s",
            note=f"restore {back:.1f} s ({made.records / back:,.0f} records/s), start {up:.1f} s; "
            f"{min(facts.KEYS, COUNT + _MORE):,} rows checked",
        ),
    ]
