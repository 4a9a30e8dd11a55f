"""The safety machine on faust: one case topic, one table, effects with fixed ids.

At least once, no concurrency, static membership, raw bytes decoded here. The
table holds absolute states; a repeated event changes nothing and sends its
effects again. The domain machine and the kit's loop protocol are pure; this
module only moves bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from faust.types import ProcessingGuarantee

from services.kit import points
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, headers_of
from services.kit.errors import Poison
from services.kit.ids import derived_id
from services.kit.log import get_logger
from services.kit.metrics import LOOP_RUNS, STAGE_SECONDS, Metrics
from services.kit.runners.loop import Effect, Loop
from services.kit.settings import KafkaSettings
from services.loops.broker import credentials
from services.loops.domain import safety
from services.loops.domain.runs import stage_seconds
from services.loops.handlers import CASE_TOPIC

_log = get_logger("loops.machine")
APP_ID = "pharmaloop-loops"
TABLE = "safety-cases"
_PARTITIONS = 6


def _run_id(trigger: str) -> str:
    return derived_id("safety-run", trigger)


def _react(case: safety.Case | None, event: Event) -> tuple[safety.Case, list[Effect]]:
    happened = safety.Happened(event.id, event.message, event.time, event.created, event.run)
    state, effects = safety.react(case, happened, _run_id)
    return state, [Effect(message, run, seq) for message, run, seq in effects]


SAFETY: Loop[safety.Case] = Loop("safety", safety.Case, _react)


def _record(message: Any) -> Record:
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


class Machine:
    """Runs the loop in the service's own event loop."""

    def __init__(
        self, kafka: KafkaSettings, data_dir: Path, instance: str, prefix: str, metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self.app = _faust_app(kafka, data_dir, instance, prefix)
        self._table = self.app.Table(TABLE, partitions=_PARTITIONS, key_type=bytes, value_type=bytes)
        self._source = self.app.topic(CASE_TOPIC, key_type=bytes, value_type=bytes, value_serializer="raw")
        self.app.agent(self._source, name="safety")(self._consume)

    async def _consume(self, stream: Any) -> None:
        async for item in stream.events():
            await self._take(item.message)

    async def _take(self, message: Any) -> None:
        """One record of the case topic: never raises, so that nothing is acknowledged unseen."""
        record = _record(message)
        try:
            event = from_record(contract(), record)
            key = record.key or b""
            held = self._table.get(key)
            before = SAFETY.load(held) if held else None
            case, effects = SAFETY.step(before, event)
            if before is None or case is not before:
                self._table[key] = SAFETY.dump(case)
                self._measure(effects)
        except Exception as error:  # noqa: BLE001 -- faust acknowledges what raises
            await self._dead_letter(record, error)
            return
        points.reached("loop.stored")
        for effect in effects:
            await self._send(effect)
        points.reached("loop.sent")

    async def _send(self, event: Event) -> None:
        topic, _ = contract().route(event.message)
        await self._publish(
            topic, event.key.encode(), event.message.SerializeToString(), list(headers_of(event))
        )

    async def _publish(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Send and wait for the broker; while it does not answer, the case waits too."""
        while True:
            try:
                sent = await self.app.producer.send_and_wait(topic, key, value, None, None, headers)
                assert sent is not None
                return
            except Exception as error:  # noqa: BLE001 -- an effect is never given up
                _log.warning("effect not sent, trying again", topic=topic, error=repr(error))
                await asyncio.sleep(0.5)

    async def _dead_letter(self, record: Record, error: Exception) -> None:
        reason = error.reason if isinstance(error, Poison) else "HANDLER_FAILED"
        _log.error(
            "case record dead-lettered", reason=reason, partition=record.partition, offset=record.offset
        )
        why = {"dlq_reason": reason, "dlq_description": str(error), "dlq_runner": "loops.safety"}
        headers = [*record.headers, *((name, value.encode()) for name, value in why.items())]
        await self._publish(f"{record.topic}.dlq", record.key or b"", record.value or b"", headers)

    def _measure(self, effects: list[Event]) -> None:
        """Stage times and endings, counted when a case really changed."""
        for effect in effects:
            message: Any = effect.message
            if effect.type.endswith(".StageCompleted"):
                self._metrics.observe(
                    STAGE_SECONDS, stage_seconds(message), loop="safety", stage=message.stage
                )
            elif effect.type.endswith(".LoopClosed"):
                self._metrics.add(LOOP_RUNS, loop="safety", outcome="closed")

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Run until cancelled; `on_ready` is called once the table is recovered."""
        await self.app.start()
        try:
            await self._recovered()
            on_ready()
            await self.app.wait_until_stopped()
        finally:
            await self.app.stop()

    async def _recovered(self) -> None:
        while self.app.rebalancing or not self.app.tables.recovery.completed.is_set():
            await asyncio.sleep(0.05)


def _faust_app(kafka: KafkaSettings, data_dir: Path, instance: str, prefix: str) -> Any:
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
        producer_compression_type="lz4",
        stream_wait_empty=False,
        web_enabled=False,
        loop=asyncio.get_running_loop(),
        logging_config=None,
    )
