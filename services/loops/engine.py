"""faust, as the loops use it: how it connects, its table, and its side of `Port`.

The one module that knows faust's insides. faust moves records and keeps the
table; what is safe to acknowledge, and in which order things are written, is
decided by the kit's loop driver. At least once, no concurrency, static
membership, no web server, topics made by the migration.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP, ProcessingGuarantee
from mode.utils.futures import notify

from services.kit.bus.holes import goes_on_at
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import LARGEST_LETTER_BYTES, Outgoing, Partition, Record
from services.kit.errors import PharmaLoopError
from services.kit.log import get_logger
from services.kit.runners.loop import offset_of
from services.kit.runners.loop_driver import Lost
from services.kit.settings import KafkaSettings
from services.loops.broker import credentials

_log = get_logger("loops.engine")
APP_ID = "pharmaloop-loops"
_RETRY_SECONDS = 0.5
_SILENT_SECONDS = 2.0


class CaseTable(faust.Table):
    """A table whose changelog is written by the driver, which waits for it.

    faust itself would send the change in the background, and go on when that
    fails: a case could then be acknowledged and be nowhere but here.

    Reading the changelog, the case that took the later record counts, whatever
    its place: a worker that was frozen while it sent may write after its
    successor did. `undone` has the cases that end with such a late writing,
    with its offset; until they are written once more, the next start reads it again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.undone: dict[int, dict[bytes, int]] = defaultdict(dict)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Take in what the changelog has, but nothing older than what is here."""
        events = list(batch)
        newest: dict[tuple[int, bytes], Any] = {}
        for event in events:
            self._weigh(event, newest)
        super().apply_changelog_batch(newest.values())
        for tp, offset in {event.message.tp: event.message.offset for event in events}.items():
            self.confirmed(tp, offset)

    def _weigh(self, event: Any, newest: dict[tuple[int, bytes], Any]) -> None:
        partition, key, value = event.message.partition, event.message.key, event.message.value
        known = newest.get((partition, key))
        held = self.held(partition, key) if known is None else known.message.value
        if held and value and offset_of(value) < offset_of(held):
            self.undone[partition].setdefault(key, event.message.offset)
            _log.warning("a former owner wrote a case late, the newer one counts", partition=partition)
        else:
            self.undone[partition].pop(key, None)
            newest[partition, key] = event

    def held(self, partition: int, key: bytes) -> bytes | None:
        """The value of a key."""
        value: bytes | None = self.data._db_for_partition(partition).get(key)
        return value

    def on_key_set(self, key: Any, value: Any) -> None:
        """The driver sends the change."""

    def of_partition(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Keys and values of one partition."""
        store = self.data
        items: Iterable[tuple[bytes, bytes]] = store._visible_items(store._db_for_partition(partition))
        return items

    def confirmed(self, tp: TP, offset: int) -> None:
        """The changelog has everything that is here, up to this offset."""
        late = self.undone[tp.partition].values()
        self.data.set_persisted_offset(tp, min([offset, *(max(0, at - 1) for at in late)]))


def record_of(message: Any) -> Record:
    """The record of a faust message."""
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        tuple((str(name), bytes(value or b"")) for name, value in pairs),
        int((message.timestamp or 0) * 1000),
    )


class Engine:
    """A faust app with one table over one topic; the driver's `Port`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        data_dir: Path,
        instance: str,
        prefix: str,
        *,
        source: str,
        table: str,
        partitions: int,
        on_trouble: Callable[[str], None],
    ) -> None:
        self.app = faust_app(kafka, data_dir, instance, prefix)
        self._bus = KafkaBus(kafka, f"{prefix}{APP_ID}-{instance}")
        self._source = source
        self._on_trouble = on_trouble
        self._table = CaseTable(
            self.app,
            name=table,
            partitions=partitions,
            key_type=bytes,
            value_type=bytes,
            beacon=self.app.tables.beacon,
        )
        self.app.tables.add(self._table)
        self.changelog = str(self._table.changelog_topic_name)

    def consume(self, name: str, take: Callable[[Record], Awaitable[None]]) -> None:
        """Give every record of the source topic to `take`, one at a time."""
        topic = self.app.topic(self._source, key_type=bytes, value_type=bytes, value_serializer="raw")

        async def agent(stream: Any) -> None:
            async for event in stream.events():
                await take(record_of(event.message))

        self.app.agent(topic, name=name)(agent)

    def on_assignment(self, revoked: Callable[[], None], recovered: Callable[[set[int]], None]) -> None:
        """Call `revoked` when partitions go, `recovered` when the table of those that came is read."""

        async def gone(_app: Any, _partitions: Any = None, **_: Any) -> None:
            revoked()

        async def back(_app: Any, *_args: Any, **_: Any) -> None:
            recovered(self.partitions())

        self.app.on_partitions_revoked.connect(gone)
        self.app.on_rebalance_complete.connect(back)

    # -- what it says of itself ------------------------------------------

    def partitions(self) -> set[int]:
        """Partitions of the source that are ours."""
        if self.app._consumer is None:
            return set()
        try:
            assigned = self.app.consumer.assignment()
        except ConsumerNotStarted:  # its thread comes up a moment after faust calls it started
            return set()
        return {tp.partition for tp in assigned if tp.topic == self._source}

    def turning(self) -> bool:
        """Does it take records: neither starting, recovering nor between two assignments?"""
        return not self.app.rebalancing and bool(self.app.tables.recovery.completed.is_set())

    def acknowledged(self) -> dict[int, int]:
        """The committed offset of each of our partitions, as far as faust knows it."""
        known = self.app.consumer._committed_offset
        return {p: offset for p in self.partitions() if (offset := known.get(TP(self._source, p)))}

    async def acknowledge(self, offsets: Mapping[int, int]) -> bool:
        """Commit these offsets: everything before them is taken. False: faust itself was committing.

        faust commits no further than the first record that it did not see acknowledged itself. A record that
        it passed over while it recovered, and that the table held already, would stop its commits for ever
        (faust-streaming issue 596).

        Never beside a commit of faust's own: each is one of the only two calls that its consumer's thread
        serves at a time, also the call that fetches records. A log that refuses commits keeps both waiting,
        and no loop would take a record any more.
        """
        consumer = self.app.consumer
        if (own := consumer._commit_fut) is not None:
            await asyncio.wait({own})
            return False
        consumer._commit_fut = asyncio.get_running_loop().create_future()
        try:
            return bool(
                await consumer._commit_offsets({TP(self._source, p): at for p, at in offsets.items()})
            )
        finally:
            ours, consumer._commit_fut = consumer._commit_fut, None
            notify(ours)

    def crash_reason(self) -> BaseException | None:
        """Why faust stopped on its own."""
        reason: BaseException | None = self.app.crash_reason
        return reason

    # -- the driver's port -------------------------------------------------

    def mine(self, partition: int) -> bool:
        # The flow is suspended at once when a rebalance begins.
        return bool(self.app.flow_control.is_active()) and partition in self.partitions()

    def get(self, partition: int, key: bytes) -> bytes | None:
        value: bytes | None = self._table.get(key)
        return value

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        self._table[key] = value

    def cases(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        return self._table.of_partition(partition)

    def undone(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        held = {key: self._table.held(partition, key) for key in self._table.undone[partition]}
        return [(key, value) for key, value in held.items() if value]

    async def end(self, partition: int) -> int:
        place = TP(self._source, partition)
        while True:
            if not self.mine(partition):
                raise Lost(f"partition {partition} went to another worker")
            try:
                asking = asyncio.ensure_future(self.app.consumer.highwaters(place))
                ends = await self._patiently(asking, self._source)
                self._on_trouble("")
                return int(ends[place])
            except Exception as error:  # noqa: BLE001 -- asked until it answers
                self._on_trouble(f"{self._source} does not tell its end: {error!r}")
                await asyncio.sleep(_RETRY_SECONDS)

    async def first(self, partition: int, offset: int) -> int:
        place = Partition(self._source, partition)
        while True:
            if not self.mine(partition):
                raise Lost(f"partition {partition} went to another worker")
            try:
                reading = asyncio.ensure_future(
                    asyncio.to_thread(goes_on_at, self._bus, place, offset, _SILENT_SECONDS)
                )
                found = await self._patiently(reading, self._source)
            except PharmaLoopError as error:
                self._on_trouble(f"{self._source} does not give its records: {error}")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if found is not None:
                    self._on_trouble("")
                    return int(found)

    async def confirm(self, partition: int, key: bytes, value: bytes) -> None:
        # An old owner that writes late would undo the new owner's cases.
        sent = await self._publish(self.changelog, key, value, partition, (), lambda: self.mine(partition))
        self._table.undone[partition].pop(key, None)
        self._table.confirmed(TP(self.changelog, partition), sent.offset)

    async def send(self, partition: int, record: Outgoing) -> None:
        # Whoever sends it: an effect has the same id and bytes everywhere.
        await self._publish(record.topic, record.key, record.value, None, record.headers, lambda: True)

    async def seek(self, partition: int, offset: int) -> None:
        if not self.mine(partition):
            raise Lost(f"partition {partition} went to another worker")
        await self.app.consumer.seek(TP(self._source, partition), offset)

    async def _publish(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        partition: int | None,
        headers: Iterable[tuple[str, bytes]],
        may: Callable[[], bool],
    ) -> Any:
        """Send and wait for the log; while it does not answer, the case waits too."""
        while True:
            if not may():
                raise Lost(f"partition {partition} went to another worker")
            sending = self.app.producer.send_and_wait(topic, key, value, partition, None, list(headers))
            try:
                sent = await self._patiently(asyncio.ensure_future(sending), topic)
            except Exception as error:  # noqa: BLE001 -- an effect is never given up
                _log.warning("not sent, trying again", topic=topic, error=repr(error))
                self._on_trouble(f"{topic} does not take records: {error!r}")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._on_trouble("")
                return sent

    async def _patiently(self, sending: asyncio.Future[Any], topic: str) -> Any:
        """Its result, whenever it comes; a long wait is told."""
        try:
            while not sending.done():
                done, _ = await asyncio.wait({sending}, timeout=_SILENT_SECONDS)
                if not done:
                    self._on_trouble(f"{topic}: Kafka has not answered for a while")
        finally:
            sending.cancel()
        return sending.result()


def faust_app(kafka: KafkaSettings, data_dir: Path, instance: str, prefix: str) -> Any:
    """The one place that says how faust connects and runs."""
    data_dir.mkdir(parents=True, exist_ok=True)
    brokers = [f"kafka://{host.strip()}" for host in kafka.bootstrap_servers.split(",")]
    return faust.App(
        prefix + APP_ID,
        broker=brokers,
        broker_credentials=credentials(kafka),
        store="rocksdb://?driver=rocksdict",
        datadir=str(data_dir),
        processing_guarantee=ProcessingGuarantee.AT_LEAST_ONCE,
        broker_commit_interval=0.5,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{prefix}{APP_ID}-{instance}",
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        producer_acks=-1,
        # A connection that a firewall has forgotten is given up then, and the record sent again; by
        # default it would be after twenty minutes.
        producer_request_timeout=20.0,
        producer_compression_type="lz4",
        producer_max_request_size=LARGEST_LETTER_BYTES,
        consumer_max_fetch_size=LARGEST_LETTER_BYTES,
        stream_wait_empty=False,
        web_enabled=False,
        loop=asyncio.get_running_loop(),
        logging_config=None,
    )
