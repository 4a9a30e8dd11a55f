"""A bug is deployed, noticed, mended, and what it has cost is made good: by the operator's own commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog

from services.kit.app import ServiceSpec
from services.kit.bus.kafka import KafkaBus
from services.kit.envelope import Event, to_record
from services.kit.runners.letters import LETTERS
from services.kit.runners.loop import Effect, Loop
from services.kit.settings import KafkaSettings
from services.loops.main import run_machine
from tests.reliability.loop_child import HEARD, Heard
from tests.reliability.loop_world import LoopWorld, loop_world
from tests.reliability.operators import (
    CAPA_TOPIC,
    INSIGHT_TOPIC,
    RUNNER,
    Everything,
    Operator,
    by_key,
    deployed,
    published,
    running,
)
from tests.suites.backbone import Backbone, new_name


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Drawing hundreds of tracebacks takes longer than the test."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()


async def test_what_a_bug_has_cost_is_made_good_in_order_and_once(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    product, database = new_name("product"), new_name("t")
    a, b, c = (new_name(name) for name in "abc")
    heard = await others.listen(INSIGHT_TOPIC, a, b, c)
    async with running(deployed(product, {"a2", "c1"}), backbone, mongo, tmp_path, database) as operator:
        await others.say(CAPA_TOPIC, *published(product, a, "a1", "a2", "a3"))
        await others.say(CAPA_TOPIC, *published(product, c, "c1", "c2"), *published(product, b, "b1", "b2"))

        async def all_dead() -> bool:
            return len(await operator.app.store.where(LETTERS, "waits", True)) >= 4

        await operator.until(all_dead)
        letters = await operator.letters(a, b, c)
        assert sorted((one["key"], one["reason"]) for one in letters) == sorted(
            [(a, "HANDLER_FAILED"), (a, "PARKED"), (c, "HANDLER_FAILED"), (c, "PARKED")]
        )
        assert await operator.stories(a, b, c) == {a: ["a1"], b: ["b1", "b2"], c: []}
        # The bug is still there: all stays as it was.
        of_a = [one["letter"] for one in letters if one["key"] == a]
        code, output = await operator.run("dlq", "redrive", *of_a, "--yes", "--json")
        assert code == 1
        assert [(one["state"], one["attempts"]) for one in json.loads(output)["letters"]] == [
            ("DEAD_LETTER_STATE_OPEN", 2),
            ("DEAD_LETTER_STATE_OPEN", 1),
        ]
    async with running(deployed(product, {"c1"}), backbone, mongo, tmp_path, database) as operator:
        code, output = await operator.run("dlq", "redrive", of_a[0], "--yes", "--json")
        assert code == 0, output
        first, second = (one["letter"] for one in letters if one["key"] == c)
        code, output = await operator.run("dlq", "discard", first, "--reason", "made by a test", "--yes")
        assert code == 0, output
        code, output = await operator.run("dlq", "redrive", second, "--yes", "--json")
        assert code == 0, output
        (shown,) = await operator.letters(c, state="discarded")
        assert (shown["letter"], shown["judged_by"], shown["judged_why"]) == (
            first,
            "person:li",
            "made by a test",
        )
        _, output = await operator.run("dlq", "show", first)
        assert "made by a test" in output
        assert '"statement": "c1"' in output
        # New events go on where the old ones have ended.
        await others.say(
            CAPA_TOPIC, *published(product, a, "a4", first=4), *published(product, c, "c3", first=3)
        )
        expected = {a: ["a1", "a2", "a3", "a4"], b: ["b1", "b2"], c: ["c2", "c3"]}

        async def all_told() -> bool:
            return await operator.stories(a, b, c) == expected

        await operator.until(all_told)
        assert await operator.letters(a, b, c) == []
    # What was discarded stays so, even where a rebuild by mended code could fold it.
    async with running(deployed(product, ()), backbone, mongo, tmp_path, database) as operator:
        code, output = await operator.run("rebuild", "start", RUNNER)
        assert code == 0, output
        assert output.startswith("done, ")
        assert await operator.stories(a, b, c) == expected
    told = await heard(8)
    assert by_key(told) == expected
    assert len({dict(record.headers)["ce_id"] for record in told}) == 8


async def test_a_bad_deploy_stops_the_runner_and_drains_nothing(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    product, database = new_name("product"), new_name("t")
    keys = [new_name("k") for _ in range(250)]
    heard = await others.listen(INSIGHT_TOPIC, *keys)
    async with running(deployed(product, Everything()), backbone, mongo, tmp_path, database) as operator:
        events = [event for key in keys for event in published(product, key, f"{key} 1")]
        stands = await others.say(CAPA_TOPIC, *events)

        async def stopped() -> bool:
            _, output = await operator.run("status", "--json")
            (service,) = json.loads(output)["services"].values()
            (runner,) = service["runners"]
            return bool(runner["state"] == "failed" and service["health"] != "serving")

        await operator.until(stopped)
        assert "newest deploy" in operator.app.runners[0].status.detail
        dead = await operator.letters(*keys)
        assert len(dead) <= 100, "it went on after the limit"
        folded = (await operator.app.positions.of(RUNNER)).items()
        passed = sum(at.offset < end for at in stands for p, end in folded if p == (at.topic, at.partition))
        assert passed == len(dead), "a record was passed over without a letter"
    async with running(deployed(product, ()), backbone, mongo, tmp_path, database) as operator:
        if dead:
            ids = [letter["letter"] for letter in dead]
            code, output = await operator.run("dlq", "redrive", *ids, "--yes", "--json")
            assert code == 0, output
        expected = {key: [f"{key} 1"] for key in keys}

        async def all_told() -> bool:
            return await operator.stories(*keys) == expected

        await operator.until(all_told)
    assert by_key(await heard(250)) == expected


# -- of a loop, whose letters are on the log alone ----------------------------


@asynccontextmanager
async def loop_running(
    world: LoopWorld, bugs: Container[str], mongo: str, folder: Path
) -> AsyncIterator[Operator]:
    """The service of a loop that cannot process the events in `bugs`."""

    def react(state: Heard | None, event: Event) -> tuple[Heard, list[Effect]]:
        if event.id in bugs:
            raise ZeroDivisionError(event.id)
        return HEARD.react(state, event)

    loop: Loop[Heard] = Loop(HEARD.name, Heard, react)
    background = partial(run_machine, loop=loop, source=world.source)
    spec = ServiceSpec(name="loops", loops=(HEARD.name,), background=background)
    runner = f"loops.{HEARD.name}"
    async with running(spec, world.kafka, mongo, folder, world.name, runner) as operator:
        yield operator


async def heard_by(world: LoopWorld, ids: list[str]) -> bool:
    cases = await asyncio.to_thread(world.cases)
    return [id for case in cases.values() if case.state for id in case.state.ids] == ids


@pytest.mark.faults
async def test_letters_of_a_loop_are_seen_and_settled_like_all_others(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    with loop_world(backbone, tmp_path) as world:
        await asyncio.to_thread(world.create)
        events = [world.event("c", "s") for _ in range(6)]
        first, bad, follows, *later = events
        cut = to_record(later[0], world.source)._replace(value=b"\xff")
        await asyncio.to_thread(world.feed, [first, bad, follows])
        async with loop_running(world, {bad.id}, mongo, tmp_path) as operator:

            async def dead(count: int) -> bool:
                return len(await operator.app.store.where(LETTERS, "waits", True)) == count

            await operator.until(lambda: dead(2))
            letters = await operator.letters(bad.key)
            assert [(one["reason"], one["attempts"]) for one in letters] == [
                ("HANDLER_FAILED", 1),
                ("PARKED", 1),
            ]
            _, output = await operator.run("dlq", "show", letters[0]["letter"])
            assert "ZeroDivisionError" in output
            # The bug is still there: all stays as it was.
            ids = [one["letter"] for one in letters]
            code, output = await operator.run("dlq", "redrive", *ids, "--yes", "--json")
            assert code == 1, output
            assert [(one["state"], one["attempts"]) for one in json.loads(output)["letters"]] == [
                ("DEAD_LETTER_STATE_OPEN", 2),
                ("DEAD_LETTER_STATE_OPEN", 1),
            ]
        async with loop_running(world, (), mongo, tmp_path) as operator:
            code, output = await operator.run("dlq", "redrive", ids[0], "--yes", "--json")
            assert code == 0, output
            await operator.until(lambda: dead(0))  # what only stood behind goes on with it
            # Bytes that nobody can read, and what stands behind them.
            await asyncio.to_thread(world.publish, [cut])
            await asyncio.to_thread(world.feed, [later[1]])
            await operator.until(lambda: dead(2))
            garbage, behind = (one["letter"] for one in await operator.letters(bad.key))
            code, output = await operator.run(
                "dlq", "discard", garbage, "--reason", "made by a test", "--yes"
            )
            assert code == 0, output
            code, output = await operator.run("dlq", "redrive", behind, "--yes", "--json")
            assert code == 0, output
            (shown,) = await operator.letters(bad.key, state="discarded")
            assert (shown["letter"], shown["judged_by"]) == (garbage, "person:li")
            await asyncio.to_thread(world.feed, [later[2]])
            processed = [first.id, bad.id, follows.id, later[1].id, later[2].id]
            await operator.until(lambda: heard_by(world, processed))
            assert await operator.letters(bad.key) == []
            assert [runner.status.state for runner in operator.app.loops] == ["running", "running"]
            names = [runner.name for runner in operator.app.loops]
            assert names == ["loops.heard", "loops.heard.letters"]
