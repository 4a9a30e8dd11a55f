"""A replica set of three: what only its primary has is not acted on."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from services.kit.errors import Retryable
from services.kit.settings import MongoSettings
from services.kit.store import mongo
from services.kit.store.kinds import OutboxRow, Plan
from services.kit.store.motor_db import MotorStore
from services.kit.store.protocol import AsyncTransaction
from services.kit.testing.engines import free_port, running
from tests.reliability.ha.engines import NUMBERS, Member, Members
from tests.reliability.world import until

pytestmark = pytest.mark.faults


@pytest.mark.timeout(120)
async def test_what_only_the_primary_has_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be undone if the primary died now, and its event would be out."""
    monkeypatch.setattr(mongo, "CALL_SECONDS", 4.0)
    members = Members([Member(n, tmp_path / f"mongod-{n}", free_port()) for n in NUMBERS])
    row = OutboxRow("e1", "lot|1", 1, "t", b"k", b"v", ())

    async def write(txn: AsyncTransaction) -> None:
        await txn.write(Plan((), (row,)))

    with ExitStack() as stack:
        children = {
            one.name: stack.enter_context(running(one, tmp_path / f"{one.name}.log", grace=1))
            for one in members.each
        }
        members.found()
        until("the set is whole", members.whole)
        store = MotorStore(MongoSettings(uri=members.uri), "t")
        await store.prepare([])
        primary = members.primary()
        for one in members.each:
            if one is not primary:
                children[one.name].send_signal(signal.SIGSTOP)
                stack.callback(children[one.name].send_signal, signal.SIGCONT)
        with pytest.raises(Retryable):
            await store.transact(write)
        assert primary is not None
        with MongoClient[dict[str, Any]](primary.host, directConnection=True) as client:
            assert client["t"][mongo.OUTBOX].count_documents({}) == 1
        assert await store.unpublished(9) == []
        await store.close()
