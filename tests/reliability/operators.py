"""A version of a service with a bug, and the operator at its command line who settles what it costs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.app import App, ServiceSpec
from services.kit.bus.protocol import Record
from services.kit.envelope import Event
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Kind
from services.kit.testing.engines import free_port
from services.kit.testing.service import running_service
from services.kit.work import Work
from services.rnd.main import SPEC

CAPA_TOPIC, INSIGHT_TOPIC = "pharmaloop.production.capa.v1", "pharmaloop.rnd.insight.v1"
RUNNER = "rnd.stories"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Story:
    """What was published about an insight, in order."""

    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Teller:
    """The aggregate that says so in turn."""

    count: int = 0


STORIES: Kind[Story] = Kind("story", Story)
TELLERS: Kind[Teller] = Kind(
    "teller", Teller, evolve=lambda state, event: Teller((state or Teller()).count + 1)
)


def deployed(product: str, bugs: Container[str]) -> ServiceSpec:
    """rnd in a version that cannot process the statements in `bugs`."""

    def tell(work: Work, event: Event) -> None:
        published = cast(production.InsightPublished, event.message)
        if published.product != product:
            return  # left on the topic by another test
        key, statement = published.insight, published.statement
        before = work.get(STORIES, key) or Story()
        work.put(STORIES, key, Story((*before.told, statement)))
        work.apply(TELLERS, key, rnd.InsightRecorded(insight=key, parameter=statement))
        if statement in bugs:
            raise ZeroDivisionError(statement)

    reactor = Reactor("stories", {production.InsightPublished: tell}, views=(STORIES,))
    return replace(SPEC, kinds=(*SPEC.kinds, STORIES, TELLERS), reactors=(reactor,))


class Everything:
    """A bug that hits all."""

    def __contains__(self, statement: object) -> bool:
        return True


def published(product: str, key: str, *statements: str, first: int = 1) -> list[Event]:
    return [
        Event(
            id=str(uuid.uuid4()),
            source="/svc/production/capa",
            subject=key,
            time=_NOON,
            message=production.InsightPublished(
                insight=key, product=product, parameter="T", statement=statement, capa=key
            ),
            key=key,
            seq=seq,
        )
        for seq, statement in enumerate(statements, first)
    ]


class Operator:
    """Someone at the command line of the running service."""

    def __init__(self, app: App, address: str, runner: str = RUNNER) -> None:
        self.app = app
        self._runner = runner
        self._endpoints = json.dumps({app.spec.name: address})

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """`pharmaloop`, once it runs."""
        environment = {**os.environ, "PHARMALOOP_ENDPOINTS": self._endpoints, "PHARMALOOP_ACTOR": "person:li"}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.cli.main",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of `pharmaloop`."""
        process = await self.begin(*arguments)
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def letters(self, *keys: str, state: str = "") -> list[dict[str, Any]]:
        """The letters of our keys, as `dlq list` shows them."""
        more = ("--state", state) if state else ()
        _, output = await self.run("dlq", "list", "--runner", self._runner, *more, "--json")
        return [letter for letter in json.loads(output)["letters"] if letter["key"] in keys]

    async def stories(self, *keys: str) -> dict[str, list[str]]:
        found = {key: await self.app.store.get(STORIES, key) for key in keys}
        return {key: list(story.state.told) if story else [] for key, story in found.items()}

    async def until(self, told: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not await told():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(
    spec: ServiceSpec,
    backbone: str,
    mongo: str,
    folder: Path,
    database: str,
    runner: str = RUNNER,
    *,
    until: str = "ready",
) -> AsyncIterator[Operator]:
    port = str(free_port())
    service = running_service(spec, backbone, mongo, folder, database=database, until=until, grpc_port=port)
    async with service as (app, _):
        yield Operator(app, f"127.0.0.1:{port}", runner)


def by_key(records: list[Record]) -> dict[str, list[str]]:
    """Statements that were recorded, in the order of the log, by key."""
    told: dict[str, list[str]] = {}
    for record in records:
        message = rnd.InsightRecorded.FromString(record.value or b"")
        told.setdefault(message.insight, []).append(message.parameter)
    return told
