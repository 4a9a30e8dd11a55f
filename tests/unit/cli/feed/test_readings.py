"""Readings on their way: equipment known, lots started and completed, each value where it belongs."""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.cli.feed import batches
from services.kit.errors import Retryable
from services.kit.ids import lot_key
from services.production.domain.equipment import Equipment, Tag
from tests.unit.cli.feed.support import Platform

DRYERS = ("plant-1/dryer-1", "plant-1/dryer-2")
MAPPING = "constants: {owner: maker-1, scheme: item, item: granulate}\nzone: Asia/Shanghai\n"
BEGIN = datetime(2026, 3, 5, 8)


def lot(name: str) -> str:
    return lot_key("maker-1", "item", "granulate", name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "map.yaml").write_text(MAPPING)
    return tmp_path


def feed(platform: Platform, folder: Path, text: str, *more: str, name: str = "history.csv") -> Any:
    (folder / name).write_text(text, encoding="utf-8")
    mapping = [] if "-m" in more else ["-m", str(folder / "map.yaml")]
    result = platform.bench.run("feed", "readings", str(folder / name), *mapping, *more, "--json")
    return json.loads(result.stdout) if result.stdout else result


def wide(minutes: int, *, lots: int = 2) -> tuple[str, list[tuple[str, str, str, datetime, float]]]:
    """Two dryers side by side, each with its lots one after the other; the text, and what it says."""
    lines, said = ["equipment,lot,time,DryerTemp [℃],Pressure (bar),operator"], []
    for minute in range(minutes):
        for number, dryer in enumerate(DRYERS):
            name = f"G-{number}{minute * lots // minutes}"
            at = BEGIN + timedelta(minutes=minute)
            temperature, pressure = 60 + minute / 8, 1 + minute / 16
            shown = "" if minute % 7 == 3 else f"{pressure}"
            lines.append(f"{dryer},{name},{at:%Y-%m-%d %H:%M},{temperature},{shown},Li")
            said.append((dryer, lot(name), "DryerTemp", at, temperature))
            if shown:
                said.append((dryer, lot(name), "Pressure", at, pressure))
    return "\n".join(lines) + "\n", said


def told(platform: Platform) -> list[tuple[str, str, str, datetime, float]]:
    """What the platform holds, value by value, in the local time of the file."""
    found = set()
    for fact in platform.of(events.ReadingsRecorded):
        start = fact.start.at.ToDatetime() + timedelta(minutes=fact.start.offset_minutes)
        for tag in fact.tags:
            for offset, value in zip(fact.offsets_ms, tag.values, strict=True):
                at = start + timedelta(milliseconds=offset)
                found.add((fact.equipment, fact.lot, tag.tag, at, value))
    return sorted(found)


def test_a_wide_table_becomes_runs_of_lots(platform: Platform, folder: Path) -> None:
    text, said = wide(100)
    document = feed(platform, folder, text)
    assert (document["rows"], document["taken"], document["rejected"]) == (200, 200, 0)
    assert told(platform) == sorted(said)
    assert document["files"][0]["ignored_columns"] == ["operator"]
    assert platform.equipment == {
        name: Equipment(name, "plant-1", (Tag("DryerTemp", "Cel"), Tag("Pressure", "bar"))) for name in DRYERS
    }
    runs = {key: (run.equipment, run.started[:16], run.completed[:16]) for key, run in platform.lots.items()}
    assert runs == {
        lot(f"G-{number}{half}"): (dryer, f"2026-03-05T{hour}", f"2026-03-05T{end}")
        for number, dryer in enumerate(DRYERS)
        for half, hour, end in ((0, "00:00", "00:49"), (1, "00:50", "01:39"))
    }


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_feed_of_readings_goes_on_with_the_same_requests(
    platform: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr(batches, "_ROWS", 30)
    text, said = wide(100)
    platform.failing = calls, Retryable("not now")
    assert feed(platform, folder, text).exit_code == 3
    platform.failing = None
    assert feed(platform, folder, text)["taken"] == 200
    assert told(platform) == sorted(said)
    assert {run.state for run in platform.lots.values()} == {"completed"}
    commands = ("RegisterEquipment", "StartLot", "CompleteLot")
    for method, distinct in zip(commands, (2, 4 + 2, 4), strict=True):
        assert len(set(platform.calls(method))) == distinct, method
    assert len(set(platform.calls("RecordReadings"))) == 7, "200 rows, 30 at a time"


def test_a_long_table_has_a_row_for_each_value(platform: Platform, folder: Path) -> None:
    text = (
        "设备;批号;时间;位号;数值;单位;质量\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:00;Temp;61,5;℃;good\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:00;Pressure;1,5;bar;\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:01;Temp;212;°F;0x40000000\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:02;Temp;;℃;坏\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:03;Temp;;℃;\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:04;Temp;5;bar;\n"
        "plant-1/dryer-1;G-1;2026-03-05 08:01;Temp;7;℃;\n"
    )
    document = feed(platform, folder, text)
    assert document["files"][0]["rejected"] == {"DUPLICATE_TIME": 1, "INCONVERTIBLE": 1, "REQUIRED": 1}
    by_tag = {tag.tag: tag for fact in platform.of(events.ReadingsRecorded) for tag in fact.tags}
    assert list(by_tag["Temp"].values) == [61.5, 100, 0]
    assert list(by_tag["Temp"].statuses) == [0, 0x4000_0000, 0x8000_0000]
    assert (by_tag["Pressure"].unit, list(by_tag["Pressure"].values)) == ("bar", [1.5])


def test_units_convert_to_those_of_the_mapping(platform: Platform, folder: Path) -> None:
    (folder / "map.yaml").write_text(
        MAPPING + "columns: {Pressure: 压力, Heat: 热}\nunits: {DryerTemp: Cel, Pressure: mbar, Heat: K}\n"
        "file_units: {Pressure: bar}\nset_points: [Heat]\n"
    )
    text = "equipment,lot,time,DryerTemp [°F],压力,热,x (kg)\nplant-1/d,G-1,2026-03-05 08:00,212,1.5,300,7\n"
    assert feed(platform, folder, text)["taken"] == 1
    tags = {
        tag.tag: (tag.unit, *tag.values) for fact in platform.of(events.ReadingsRecorded) for tag in fact.tags
    }
    assert tags == {"DryerTemp": ("Cel", 100), "Pressure": ("mbar", 1500), "Heat": ("K", 300), "x": ("kg", 7)}
    assert [tag.name for tag in platform.equipment["plant-1/d"].tags if tag.set_point] == ["Heat"]


@pytest.mark.parametrize(
    ("header", "mapping", "said"),
    [
        ("Temp", "", "names no measured tag.*The other headers are: Temp"),
        ("Temp", "columns: {T: Temp}", "say the unit of T under units"),
        ("Temp", "columns: {T: Tempo}", "names the header 'Tempo'"),
        ("Temp", "columns: {T: lot}\nunits: {T: Cel}", "'lot' would be T and a column of its own, too"),
        ("Temp", "units: {Temp: ° Celsius}", "units.Temp: '° Celsius' is no UCUM code"),
        ("value", "", "has both columns, tag and value"),
    ],
)
def test_a_table_without_readings_says_what_to_do(
    platform: Platform, folder: Path, header: str, mapping: str, said: str
) -> None:
    (folder / "map.yaml").write_text(MAPPING + mapping)
    result = feed(platform, folder, f"equipment,lot,time,{header}\nd,G-1,2026-03-05 08:00,5\n")
    assert result.exit_code == 2
    assert re.search(said, result.stderr), result.stderr
    assert platform.bench.fake.requests == []


def test_bad_rows_are_rejected_alone(platform: Platform, folder: Path) -> None:
    text = (
        "equipment,lot,time,Temp [Cel],Flow [/min]\n"
        "d,G-1,2026-03-05 08:00,61,1\n"
        'd,G-1,2026-03-05 08:01,"1,234",1\n'
        "d,G-1,2026-03-05 08:02,NaN,1\n"
        "d,G-1,2026-03-05 08:03,,\n"
        "d,,2026-03-05 08:04,61,1\n"
        "d,G-1,2026-03-05 08:00,62,2\n"
        "d,G-1,2026-03-05 08:05,65,1\n"
    )
    assert feed(platform, folder, text)["taken"] == 2
    with (folder / "history.rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        found = [(row["row"], row["field"], row["rule"]) for row in csv.DictReader(file)]
    assert found == [
        ("3", "Temp", "SEPARATORS"),
        ("4", "Temp", "NOT_FINITE"),
        ("5", "value", "REQUIRED"),
        ("6", "lot", "REQUIRED"),
        ("7", "at", "DUPLICATE_TIME"),
    ]
    assert platform.lots[lot("G-1")].completed.startswith("2026-03-05T00:05")


def test_equipment_that_is_known_keeps_its_tags_and_a_new_tag_is_rejected_alone(
    platform: Platform, folder: Path
) -> None:
    """Registering anew would take its other tags away."""
    platform.equipment["d"] = Equipment("d", "p", (Tag("Temp", "Cel"), Tag("Other", "1")))
    text = (
        "equipment,lot,time,tag,value,unit\n"
        "d,G-1,2026-03-05 08:00,Temp,61,Cel\n"
        "d,G-1,2026-03-05 08:00,Flow,1,/min\n"
        "d,G-1,2026-03-05 08:01,Temp,62,Cel\n"
        "d,G-1,2026-03-05 08:01,Flow,2,/min\n"
    )
    document = feed(platform, folder, text)
    assert (document["taken"], document["files"][0]["rejected"]) == (2, {"UNKNOWN_TAG": 2})
    assert [one["field"] for one in document["files"][0]["first_rejects"]] == ["Flow", "Flow"]
    assert platform.calls("RegisterEquipment") == []
    assert [value for *_, tag, _, value in told(platform) if tag == "Temp"] == [61, 62]


def test_a_second_equipment_of_a_lot_is_registered_too(platform: Platform, folder: Path) -> None:
    text = (
        "equipment,lot,time,Temp [Cel],Flow [/min]\n"
        "plant-1/mixer,G-1,2026-03-05 08:00,61,\n"
        "plant-1/dryer,G-1,2026-03-05 09:00,62,\n"
        "plant-1/dryer,G-1,2026-03-05 09:01,,1\n"
    )
    assert feed(platform, folder, text)["taken"] == 3
    assert sorted(platform.equipment) == ["plant-1/dryer", "plant-1/mixer"]
    assert platform.lots[lot("G-1")].equipment == "plant-1/mixer"


def test_nobody_is_registered_and_no_run_ended_when_that_is_asked(platform: Platform, folder: Path) -> None:
    text = "equipment,lot,time,Temp [Cel]\nd,G-1,2026-03-05 08:00,61\n"
    document = feed(platform, folder, text, "--no-register")
    assert document["files"][0]["rejected"] == {"UNKNOWN_EQUIPMENT": 1}
    assert (platform.equipment, platform.lots) == ({}, {})
    assert feed(platform, folder, text, "--keep-running")["taken"] == 1
    assert platform.lots[lot("G-1")].state == "started"


def test_the_same_file_is_fed_once_its_equipment_is_known(platform: Platform, folder: Path) -> None:
    """The platform keeps the refusal of a request: the second start makes others."""
    text = "equipment,lot,time,Temp [Cel]\nd,G-1,2026-03-05 08:00,61\n"
    assert feed(platform, folder, text, "--no-register")["rejected"] == 1
    platform.equipment["d"] = Equipment("d", "p", (Tag("Temp", "Cel"),))
    assert feed(platform, folder, text, "--no-register")["rejected"] == 0
    assert platform.lots[lot("G-1")].state == "completed"


def test_more_readings_of_a_lot_that_ended_are_taken(platform: Platform, folder: Path) -> None:
    head = "equipment,lot,time,Temp [Cel]\n"
    assert feed(platform, folder, head + "d,G-1,2026-03-05 08:00,61\n")["taken"] == 1
    assert feed(platform, folder, head + "d,G-1,2026-03-05 08:01,62\n", name="more.csv")["taken"] == 1
    assert [value for *_, value in told(platform)] == [61, 62]


def test_a_dry_run_shows_equipment_lots_and_the_first_values(platform: Platform, folder: Path) -> None:
    text, _ = wide(10, lots=1)
    document = feed(platform, folder, text, "--dry-run")
    (file,) = document["files"]
    assert file["equipment"] == {name: {"DryerTemp": "Cel", "Pressure": "bar"} for name in DRYERS}
    assert file["lots"] == [lot("G-00"), lot("G-10")]
    assert file["first"][0]["tags"][0] == {
        "tag": "DryerTemp",
        "unit": "Cel",
        "values": [60, 60.125],
        "statuses": [],
    }
    assert platform.bench.fake.requests == []


def test_training_waits_for_what_was_sent_and_needs_every_row(platform: Platform, folder: Path) -> None:
    text, _ = wide(20)
    assert feed(platform, folder, text, "--train")["models"] == {"maker-1/item/granulate": "v-1"}
    (request,) = platform.bench.fake.of("TrainModel")
    assert list(request.lots) == sorted(platform.lots)
    assert [(place.topic, place.offset) for place in request.min_position.positions] == [
        ("batches", len(platform.facts) - 1)
    ]
    feed(platform, folder, text, "--train")
    assert len(platform.bench.fake.of("TrainModel")) == 2
    spoilt = text + "d,G-9,5.3.2026,1,1,Li\n"
    assert feed(platform, folder, spoilt, "--train")["models"] == {}
    refused = feed(platform, folder, "equipment,lot,time,Temp [Cel]\nd,Z-1,2026-03-05 08:00,61\n", "--train")
    assert refused.exit_code == 1
    assert "give at least 2 good ones" in refused.stderr
