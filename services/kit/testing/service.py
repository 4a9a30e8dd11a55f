"""Runs a whole service inside a test, on real engines, with names of its own."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from grpc import aio

from services.kit.app import App, Running, ServiceSpec, connect
from services.kit.bus.kafka import KafkaBus, client_config
from services.kit.bus.migrate import changelogs
from services.kit.contracts import contract
from services.kit.errors import PharmaLoopError
from services.kit.recovery import OwnLog
from services.kit.rpc.client import channel
from services.kit.settings import KafkaSettings, MongoSettings, PlatformSettings
from services.kit.store.mongo import MongoStore

_READY_SECONDS = 30.0


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while; settings are read inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin_here(spec: ServiceSpec, kafka: str, mongo: str, database: str) -> None:
    """A test's new database is no lost one: what other tests have said before is not its own past."""
    store = MongoStore(MongoSettings(uri=mongo), database)
    bus = KafkaBus(KafkaSettings(bootstrap_servers=kafka), "test-begins")
    with suppress(PharmaLoopError):  # whatever is wrong with them is the service's to tell
        OwnLog(spec.name, contract(), bus, store, spec.kinds, PlatformSettings().sites).note()
    store.close()


def _make_changelogs(kafka: str, prefix: str) -> None:
    """Tables of a test have changelogs of their own, for their names follow the group prefix."""
    settings = KafkaSettings(bootstrap_servers=kafka)
    admin = AdminClient(client_config(settings, "test-changelogs"))
    topics = list(changelogs(contract(), settings, prefix))
    there = admin.list_topics(timeout=10).topics
    for made in admin.create_topics([t for t in topics if t.topic not in there] or topics).values():
        with suppress(KafkaException):  # a second start finds them there
            made.result()


@asynccontextmanager
async def running_service(
    spec: ServiceSpec,
    kafka: str,
    mongo: str,
    state_dir: Path,
    *,
    database: str = "",
    role: str = "all",
    until: str = "ready",
    **extra: str,
) -> AsyncIterator[tuple[App, aio.Channel]]:
    """The service, serving, with a database and consumer groups of its own.

    Give `database` to continue with what an earlier run of the test stored; one
    that does not exist is then taken for lost, and comes back from the topics.
    `role` is what the process does. It is waited for `until` it is "ready", or only
    "started" where it cannot become ready. `extra` are settings of the service by
    field name.
    """
    name = database or f"t{uuid.uuid4().hex[:12]}"
    prefix = f"PHARMALOOP_{spec.name.upper()}_"
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "MONGODB_URI": mongo,
        "PHARMALOOP_STATE_DIR": str(state_dir),
        "PHARMALOOP_GROUP_PREFIX": f"{name}.",
        f"{prefix}DATABASE": name,
        f"{prefix}GRPC_PORT": "0",
        f"{prefix}METRICS_PORT": "0",
        **{f"{prefix}{field.upper()}": value for field, value in extra.items()},
    }
    if any(log.owner == spec.name for log in contract().changelogs):
        await asyncio.to_thread(_make_changelogs, kafka, f"{name}.")
    if not database:
        await asyncio.to_thread(_begin_here, spec, kafka, mongo, name)
    with environment(values):
        app = await connect(spec, role)
    running = Running(app, role)
    try:
        await running.start()
        async with asyncio.timeout(_READY_SECONDS):
            while until == "ready" and not app.ready:
                if running.failed.done():
                    await running.failed
                await asyncio.sleep(0.02)
        async with channel(f"127.0.0.1:{running.port}") as open_channel:
            yield app, open_channel
    finally:
        await running.stop()
