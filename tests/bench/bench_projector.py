"""Facts to a read model: one projector process of the kit beside the raw clients.

First a backlog, produced and finished before: how fast it is folded. Then the
same process at a fixed rate (open loop): does it keep up? At the end every row
must be the last fact of its lot, in both read models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymongo import MongoClient

from tests.bench.framework import facts
from tests.bench.framework.machine import Child, Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option

COUNT = option("COUNT", 500_000)
#: The best of the batch sizes measured for the raw loop.
RAW_BATCH = 5_000
SUSTAINED_RATE = option("RATE", 30_000)
SUSTAINED_SECONDS = option("SECONDS", 15)


def backlog(machine: Machine, count: int, first: int = 0, rate: int = 0, keys: int = facts.KEYS) -> Child:
    """A producer child; it has produced when it tells so."""
    words = (str(number) for number in (first, count, keys, rate))
    return machine.child("producer", *words)


def produce(machine: Machine, count: int, first: int = 0, keys: int = facts.KEYS) -> None:
    done = backlog(machine, count, first, keys=keys).told("produced")
    assert (done["count"], done["left"]) == (count, 0), f"the broker did not take every fact: {done}"


def kit_projector(machine: Machine, database: str, instance: str = "0", port: int = 0) -> Child:
    return machine.child(
        "kit_projector",
        PHARMALOOP_BENCH_DATABASE=database,
        PHARMALOOP_GROUP_PREFIX=f"{database}.",
        PHARMALOOP_BENCH_INSTANCE=instance,
        PHARMALOOP_BENCH_GRPC_PORT=str(port),
    )


def until_folded(child: Child, count: int) -> list[dict[str, Any]]:
    """What it told until it had folded `count` records."""
    told = [child.told("folded")]
    while told[-1]["records"] < count:
        told.append(child.told("folded"))
    assert told[-1]["records"] == count, f"{told[-1]['records']} records were folded, {count} were produced"
    return told


def rate_of(told: list[dict[str, Any]], after: int = 0) -> float:
    """Records a second, from the end of the first batch beyond `after` to the end of the last."""
    begun = next(one for one in told if one["records"] > after)
    return float((told[-1]["records"] - begun["records"]) / (told[-1]["at"] - begun["at"]))


def cpu_of(told: list[dict[str, Any]]) -> float:
    """Microseconds of processor time an event, which a busy machine changes less than the rate."""
    begun = next(one for one in told if one["records"])
    return float((told[-1]["cpu"] - begun["cpu"]) / (told[-1]["records"] - begun["records"]) * 1e6)


def check(
    machine: Machine,
    databases: Iterable[str],
    count: int,
    keys: int = facts.KEYS,
    collection: str = "latest",
) -> None:
    """Every read model holds the last fact of every lot, and nothing else."""
    wanted = facts.last_values(count, keys)
    client: MongoClient[dict[str, Any]] = MongoClient(machine.mongo.uri)
    with client:
        for name in databases:
            held = {doc["_id"]: doc["s"]["value"] for doc in client[name][collection].find()}
            assert held == wanted, f"{name}: {len(held)} rows, not the {len(wanted)} that were expected"


def run(machine: Machine) -> list[Row]:
    produce(machine, COUNT)
    raw = machine.child("raw_projector", str(COUNT), str(RAW_BATCH))
    machine.profiled(raw, "projector-raw", "Facts to a read model: the raw clients")
    told = until_folded(raw, COUNT)
    raw_rate, raw_cpu, raw_database = rate_of(told), cpu_of(told), raw.told("done")["database"]
    raw.stop()
    kit = kit_projector(machine, "kit")
    machine.profiled(kit, "projector", "Facts to a read model: the kit's projector")
    told = until_folded(kit, COUNT)
    kit_rate, kit_cpu = rate_of(told), cpu_of(told)
    check(machine, ["kit", raw_database], COUNT)
    keeps_up = sustained(machine, kit)
    kit.stop()
    return [
        row(
            "facts -> read model, backlog",
            kit_rate,
            "events/s",
            yardstick=("raw clients, same work", raw_rate),
            target=Target(at_least=30_000, ratio_at_least=0.6),
            note=f"{COUNT:,} facts of {facts.KEYS:,} lots, one process; its processor time is "
            f"{kit_cpu:.1f} us an event, that of the raw loop {raw_cpu:.1f} us",
        ),
        *keeps_up,
    ]


def sustained(machine: Machine, kit: Child) -> list[Row]:
    """A producer at a fixed rate beside the projector, on the same two cores."""
    more = SUSTAINED_RATE * SUSTAINED_SECONDS
    producer = backlog(machine, more, first=COUNT, rate=SUSTAINED_RATE)
    told = until_folded(kit, COUNT + more)
    produced = producer.told("produced")
    check(machine, ["kit"], COUNT + more)
    offered, behind = more / produced["seconds"], told[-1]["at"] - produced["at"]
    return [
        row(
            "facts -> read model, open loop",
            rate_of(told, after=COUNT),
            "events/s",
            yardstick=("offered", offered),
            target=Target(at_least=30_000),
            note=f"{more:,} facts by a producer on the same machine that wanted {SUSTAINED_RATE:,}/s; "
            f"the last one was folded {max(0.0, behind):.2f} s after it was produced",
        )
    ]
