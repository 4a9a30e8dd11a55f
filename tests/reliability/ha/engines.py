"""A replica set of three members on this machine, each a process with little memory.

A write is acknowledged when two of them have it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from services.kit.startup.backbone import reach
from services.kit.testing.engines import HOST, REPLICA_SET, Alive, EngineError, MongoEngine

NUMBERS = (1, 2, 3)
_ASK_MS = 2000


def _wait_listening(name: str, address: str, timeout: float, alive: Alive) -> None:
    end = time.monotonic() + timeout
    while reach(address):
        if not alive() or time.monotonic() > end:
            raise EngineError(f"{name} did not begin to listen")
        time.sleep(0.1)


class Member(MongoEngine):
    """One mongod of the set."""

    cache_gigabytes = "0.25"

    def __init__(self, number: int, data_dir: Path, port: int) -> None:
        super().__init__(data_dir, port)
        self.name = f"mongod-{number}"
        self.host = f"{HOST}:{port}"

    def wait_ready(self, timeout: float, alive: Alive) -> None:
        """It listens; whether it serves is a matter of all three: `Members.whole`."""
        _wait_listening(self.name, self.host, timeout, alive)

    def asked(self, command: str, value: Any = 1) -> Mapping[str, Any]:
        """The answer of this member itself."""
        options: dict[str, Any] = {
            "directConnection": True,
            "serverSelectionTimeoutMS": _ASK_MS,
            "socketTimeoutMS": 30_000,
        }
        with MongoClient[dict[str, Any]](self.host, **options) as client:
            return client.admin.command(command, value)

    def says(self, role: str) -> bool:
        """Is it in the role: `isWritablePrimary`, or `secondary`?"""
        try:
            return not reach(self.host) and bool(self.asked("hello").get(role))
        except PyMongoError:
            return False


class Members:
    """The three of them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.each = tuple(members)
        self.uri = f"mongodb://{','.join(one.host for one in members)}/?replicaSet={REPLICA_SET}"

    def found(self) -> None:
        """Make the set, once."""
        places = [{"_id": n, "host": member.host} for n, member in enumerate(self.each)]
        self.each[0].asked("replSetInitiate", {"_id": REPLICA_SET, "version": 1, "members": places})

    def primary(self) -> Member | None:
        return next((member for member in self.each if member.says("isWritablePrimary")), None)

    def whole(self) -> bool:
        """Is one the primary, and do the others follow it?"""
        followers = sum(member.says("secondary") for member in self.each)
        return self.primary() is not None and followers == len(self.each) - 1
