"""Topics that were recorded once give the same views in every build, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.kit.bus.protocol import Record
from tests.reliability.sim.verdict import silence
from tests.replay import recording


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with silence():
        yield


@pytest.mark.parametrize("seed", recording.recorded())
def test_a_recorded_log_gives_the_recorded_views(seed: int) -> None:
    assert recording.text_of(recording.replayed(recording.records_of(seed))) == recording.expected(seed)


@pytest.mark.parametrize("seed", recording.recorded()[:1])
def test_every_record_delivered_again_changes_nothing(seed: int) -> None:
    records = recording.records_of(seed)
    last: dict[tuple[str, int], int] = {}
    for record in records:
        last[record.topic, record.partition] = record.offset
    again = [r._replace(offset=r.offset + 1 + last[r.topic, r.partition]) for r in records]
    assert recording.text_of(recording.replayed([*records, *again])) == recording.expected(seed)


def test_a_record_that_is_missing_shows() -> None:
    seed = recording.recorded()[0]
    records = recording.records_of(seed)
    lost = next(n for n, r in enumerate(records) if _type(r).endswith(".DispenseRecorded"))
    views = recording.text_of(recording.replayed([*records[:lost], *records[lost + 1 :]]))
    assert views != recording.expected(seed)


def test_there_are_recordings_of_whole_stories() -> None:
    seeds = recording.recorded()
    assert len(seeds) >= 3
    for seed in seeds:
        told = {_type(record).rsplit(".", 1)[-1] for record in recording.records_of(seed)}
        assert {"DeviationConfirmed", "SafetyRunOpened", "ExposureSealed", "DispenseRecorded"} <= told


def _type(record: Record) -> str:
    return dict(record.headers).get("ce_type", b"").decode()
