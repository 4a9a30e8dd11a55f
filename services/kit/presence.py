"""Who runs as which instance: one row a process, beaten every two seconds.

The row does three things with one write. It proves that the database takes
writes. It keeps two processes from running under one instance id, which would
fence each other in Kafka for ever: the newcomer waits and gives up, unless the
other is known to be dead or its row has stood still. And it remembers the
latest time that this instance has given out, for a clock that was set back.

No clocks of two machines are compared: a row is dead when it has not changed
for a while by the onlooker's own stopwatch.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from services.kit.clock import wall_now
from services.kit.errors import Integrity, Retryable
from services.kit.ids import new_id
from services.kit.settings import service_prefix
from services.kit.startup.database import DatabaseProbe, explain

COLLECTION = "_presence"
#: The row of a service that runs as one process, whatever its instance is called.
ONLY = "the only one"
BEAT_SECONDS = 2.0
#: A row that has stood still for so long belongs to nobody.
SILENT_SECONDS = 7.0


@dataclass(frozen=True)
class Holder:
    """A process, so that another that numbers processes alike can see whether it lives.

    `boot` is the start of the machine and the space in which its process numbers count: in each container the
    first process is number 1, and two containers of one machine may be called alike. Empty: not known.
    """

    host: str
    boot: str
    pid: int
    born: str
    token: str

    def is_dead(self, onlooker: Holder) -> bool:
        """Surely dead: only a process of the same machine, start and numbering can know; others wait."""
        if not self.boot or (self.host, self.boot) != (onlooker.host, onlooker.boot):
            return False
        # In one process (tests) a later service follows an earlier one.
        same = (self.pid, self.born) == (onlooker.pid, onlooker.born)
        return same or _born(self.pid) != self.born


class Usurped(Integrity):
    """Another process runs as this instance: this one has to leave."""


def _born(pid: int) -> str:
    """When a process of this machine started, in the kernel's ticks; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return ""
    return "" if stat[0] in "ZX" else stat[19]


def this_process() -> Holder:
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # One text: an older version of the platform, which may run beside this one, knows no other field.
        boot = f"{started} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        boot = ""
    return Holder(socket.gethostname(), boot, os.getpid(), _born(os.getpid()), new_id())


class Presence:
    """This process's row in the database of its service.

    `exclusive`: it consumes, so nobody else may run under its instance id; `alone`: nor under any other, for
    the service runs as one process.
    """

    def __init__(
        self,
        probe: DatabaseProbe,
        service: str,
        instance: str,
        role: str,
        exclusive: bool,
        *,
        alone: bool = False,
    ) -> None:
        self._probe = probe
        self._rows = probe.collection(COLLECTION)
        self._variable = f"{service_prefix(service)}INSTANCE"
        self._instance = instance
        self._service = service
        self._alone = exclusive and alone
        own = instance if exclusive else f"{role}/{instance}"
        self._id = ONLY if self._alone else own
        self._exclusive = exclusive
        self._me = this_process()
        self._seen: tuple[tuple[str, int], float] | None = None
        self._beats: dict[str, int] = {}

    def claim(self) -> datetime | None:
        """Take the row; answers the time it was last beaten. Retryable while another process has it."""
        try:
            found = self._rows.find_one({"_id": self._id})
            if found is None:
                self._rows.insert_one({"_id": self._id, **self._content(), "beat": 0})
                return None
            self._check_free(found)
            mark = {"_id": self._id, "holder.token": found["holder"]["token"], "beat": found["beat"]}
            if not self._rows.update_one(mark, {"$set": self._content(), "$inc": {"beat": 1}}).matched_count:
                raise Retryable(self._taken(found))
        except DuplicateKeyError:
            raise Retryable(f"{self._variable}: another process starts as {self._instance!r}") from None
        except PyMongoError as error:
            raise explain(error, self._probe.database) from None
        return datetime.fromisoformat(found["wall"])

    def _check_free(self, found: dict[str, Any]) -> None:
        other = Holder(**found["holder"])
        if not self._exclusive or not other.token or other.is_dead(self._me):
            return
        stand, now = (other.token, int(found["beat"])), time.monotonic()
        if self._seen is None or self._seen[0] != stand:
            self._seen = stand, now
        if now - self._seen[1] < SILENT_SECONDS:
            raise Retryable(self._taken(found))

    def _taken(self, found: dict[str, Any]) -> str:
        other = found["holder"]
        if self._alone:
            return (
                f"{service_prefix(self._service)}DATABASE={self._probe.database}: process {other['pid']} on "
                f"{other['host']} works there since {found['since']}, and {self._service} is one process: "
                "stop the other, or give this one's installation a database of its own"
            )
        return (
            f"{self._variable}={self._instance}: process {other['pid']} on {other['host']} runs as this "
            f"instance since {found['since']}: give each process an instance id of its own, or stop the other"
        )

    def _content(self) -> dict[str, Any]:
        now = wall_now().isoformat()
        return {"holder": asdict(self._me), "wall": now, "since": now}

    def beat(self) -> None:
        """Write. Usurped when the row is another's; else what keeps the database from writing."""
        mine = {"_id": self._id, **({"holder.token": self._me.token} if self._exclusive else {})}
        change = {"$set": {"wall": wall_now().isoformat()}, "$inc": {"beat": 1}}
        try:
            if self._rows.find_one_and_update(mine, change, return_document=ReturnDocument.AFTER) is None:
                self._return()
        except PyMongoError as error:
            raise explain(error, self._probe.database) from None

    def _return(self) -> None:
        """The row is not ours: gone with an old state of the database, or taken over."""
        try:
            self._rows.insert_one({"_id": self._id, **self._content(), "beat": 0})
        except DuplicateKeyError:
            other = self._rows.find_one({"_id": self._id}) or {
                "holder": {"pid": "?", "host": "?"},
                "since": "?",
            }
            raise Usurped(f"this process leaves: {self._taken(other)}") from None

    def others(self) -> bool:
        """Do other processes of the service run? By rows that have changed since this was last asked."""
        query = {"_id": {"$ne": self._id}, "holder.token": {"$ne": ""}}
        try:
            beats = {row["_id"]: int(row["beat"]) for row in self._rows.find(query, {"beat": 1})}
        except PyMongoError as error:
            raise explain(error, self._probe.database) from None
        before, self._beats = self._beats, beats
        return any(id in before and before[id] != beat for id, beat in beats.items())

    def release(self) -> None:
        """Give the row up, so that a successor need not wait; the time stays in it."""
        try:
            self._rows.update_one(
                {"_id": self._id, "holder.token": self._me.token}, {"$set": {"holder.token": ""}}
            )
        except PyMongoError:
            return
