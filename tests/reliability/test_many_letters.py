"""Many dead letters: what stops a runner is seen, and thousands are settled a page at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog

from services.kit.bus.kafka import KafkaBus
from services.kit.bus.migrate import migrate
from services.kit.bus.protocol import Outgoing, Position
from services.kit.envelope import to_record
from services.kit.runners.letters import DISCARDED, DONE, LETTERS
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import KafkaEngine, free_port
from services.kit.testing.engines import running as engine_running
from tests.reliability.operators import (
    CAPA_TOPIC,
    INSIGHT_TOPIC,
    RUNNER,
    Operator,
    by_key,
    deployed,
    published,
    running,
)
from tests.suites.backbone import Backbone, new_name

_LIMIT = 100
_UNREADABLE = 130


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Drawing hundreds of tracebacks takes longer than the test."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture
def alone() -> Iterator[str]:
    """A Kafka of its own: what nobody can read stands in the way of every other reader."""
    with TemporaryDirectory(prefix="pharmaloop-kafka-") as folder:
        engine = KafkaEngine(Path(folder, "data"), free_port(), free_port())
        with engine_running(engine, Path(folder, "kafka.log"), grace=1.0):
            migrate(KafkaSettings(bootstrap_servers=engine.bootstrap), ("hospital-a",))
            yield engine.bootstrap


def unreadable(count: int) -> list[Outgoing]:
    """Records whose values are cut off, each of a key of its own."""
    events = [event for n in range(count) for event in published("cut", f"cut {n}", "never read")]
    return [to_record(event, CAPA_TOPIC)._replace(value=b"\xff") for event in events]


async def stopped(operator: Operator) -> str:
    """Why the runner has stopped, as `status` tells it."""
    told: list[str] = []

    async def failed() -> bool:
        _, output = await operator.run("status", "--json")
        (service,) = json.loads(output)["services"].values()
        (runner,) = service["runners"]
        told[:] = [why for why in service["not_ready"] if why.startswith(RUNNER)]
        return bool(runner["state"] == "failed" and told)

    await operator.until(failed)
    return told[0]


async def shown(operator: Operator, state: str = "open") -> set[Position]:
    """Where the records of the letters stand, as `dlq list` shows them."""
    _, output = await operator.run("dlq", "list", "--runner", RUNNER, "--state", state, "--json")
    letters = json.loads(output)["letters"]
    places = [Position(one["topic"], one.get("partition", 0), int(one.get("offset", 0))) for one in letters]
    assert len(set(places)) == len(places)
    return set(places)


async def passed(operator: Operator, stands: list[Position]) -> set[Position]:
    """The records that the runner has behind it."""
    folded = await operator.app.positions.of(RUNNER)
    ends = {(place.topic, place.number): end for place, end in folded.items()}
    return {at for at in stands if at.offset < ends.get((at.topic, at.partition), 0)}


async def test_an_operator_sees_what_has_stopped_a_runner_and_gets_it_going_again(
    alone: str, mongo: str, tmp_path: Path
) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=alone), "others"))
    product, key, database = new_name("product"), new_name("k"), new_name("t")
    spec = deployed(product, ())
    stands = await others.send(*unreadable(_UNREADABLE))
    async with running(spec, alone, mongo, tmp_path, database, until="started") as operator:
        why = await stopped(operator)
        letters = await shown(operator)
        assert len(letters) == _LIMIT, "an operator sees nothing of what cannot be read, or all of it"
        assert await passed(operator, stands) == letters, "a record was passed over without a letter"
        assert f"UNDECODABLE at {CAPA_TOPIC}/" in why
        left = {f"{at.topic}/{at.partition}/{at.offset}" for at in stands if at not in letters}
        assert any(f"UNDECODABLE at {place}," in why for place in left), why
    # Whoever restarts it, a probe too, makes no more letters.
    async with running(spec, alone, mongo, tmp_path, database, until="started") as operator:
        await stopped(operator)
        assert await shown(operator) == letters
        assert await passed(operator, stands) == letters
        code, output = await operator.run(
            "dlq", "discard", "--runner", RUNNER, "--reason", "cut off", "--yes"
        )
        assert (code, output) == (0, f"{_LIMIT} letters discarded: cut off\n")
    async with running(spec, alone, mongo, tmp_path, database) as operator:

        async def all_seen() -> bool:
            return len(await operator.app.store.where(LETTERS, "waits", True)) == _UNREADABLE - _LIMIT

        await operator.until(all_seen)
        assert await shown(operator) == set(stands) - letters
        await others.say(CAPA_TOPIC, *published(product, key, "good"))

        async def told() -> bool:
            return await operator.stories(key) == {key: ["good"]}

        await operator.until(told)


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_hundreds_of_letters_are_settled_once_and_in_order_though_the_command_dies(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    product, database = new_name("product"), new_name("t")
    sizes = {new_name("long"): 250, **{new_name("k"): 20 for _ in range(20)}}
    gone = new_name("gone")
    statements = {key: [f"{key} {n}" for n in range(size)] for key, size in sizes.items()}
    unwanted = [f"{gone} {n}" for n in range(250)]
    heard = await others.listen(INSIGHT_TOPIC, *sizes, gone)
    bugs = {told[0] for told in (*statements.values(), unwanted)}
    async with running(deployed(product, bugs), backbone, mongo, tmp_path, database) as operator:
        for key, told in {**statements, gone: unwanted}.items():
            await others.say(CAPA_TOPIC, *published(product, key, *told))

        async def all_dead() -> bool:
            return len(await operator.app.store.where(LETTERS, "waits", True)) == 900

        await operator.until(all_dead, 60)
    async with running(deployed(product, ()), backbone, mongo, tmp_path, database) as operator:
        ids = [letter["letter"] for letter in await operator.letters(gone)]
        code, output = await operator.run("dlq", "discard", *ids, "--reason", "made by a test", "--yes")
        assert (code, output) == (0, "250 letters discarded: made by a test\n")
        # Whoever has begun is killed in the middle.
        first = await operator.begin("dlq", "redrive", "--runner", RUNNER, "--yes")

        async def some_done() -> bool:
            return bool(await operator.app.store.where(LETTERS, "state", DONE))

        await operator.until(some_done)
        first.kill()
        await first.wait()
        waiting = len(await operator.app.store.where(LETTERS, "waits", True))
        assert waiting, "there was no middle to be killed in"
        code, output = await operator.run("dlq", "redrive", "--runner", RUNNER, "--yes", "--json")
        assert code == 0, output
        answer = json.loads(output)
        assert (answer["open"], answer["redrive"], answer["left"]) == (0, 0, 0)
        assert len(await operator.app.store.where(LETTERS, "state", DONE)) == 650
        assert len(await operator.app.store.where(LETTERS, "state", DISCARDED)) == 250
        # The keys are free again.
        await others.say(CAPA_TOPIC, *published(product, gone, "later", first=251))
        expected = {**statements, gone: ["later"]}

        async def all_told() -> bool:
            return await operator.stories(*expected) == expected

        await operator.until(all_told)
    assert by_key(await heard(651)) == expected
