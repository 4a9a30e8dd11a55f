"""Materials, dispenses and patients: what is taken, what is refused, and where that is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as trace
from services.kit.errors import Forbidden
from services.kit.ids import dispense_id
from tests.unit.cli.feed.support import Platform
from tests.unit.cli.support import SITE

LOT = "maker-1/gtin/06901234500547/A-0001"
DISPENSES = "lot,order,site,pseudonym,at\n"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def dispense(number: int, **changes: str) -> str:
    cells = {
        "lot": LOT,
        "order": f"RX-{number}",
        "site": SITE,
        "pseudonym": f"P-{number}",
        "at": "2026-03-05T14:02+08:00",
        **changes,
    }
    return ",".join(cells.values()) + "\n"


def rejects(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_dispenses_are_taken_as_the_pharmacys_and_as_the_hospitals(
    platform: Platform, tmp_path: Path
) -> None:
    file = write(tmp_path / "list.csv", DISPENSES + dispense(1) + dispense(2))
    for more in ((), ("--as", "hospital")):
        result = platform.bench.run("feed", "dispenses", file, *more)
        assert result.exit_code == 0, result.output
        assert "2 rows, 2 taken, 0 rejected" in result.stdout
    told, own = platform.of(trace.DispenseRecorded), platform.of(clinical.MedicationRecorded)
    ids = [dispense_id(SITE, f"RX-{number}", LOT) for number in (1, 2)]
    assert [fact.dispense for fact in told] == [fact.dispense for fact in own] == ids
    assert told[0].at.at.ToJsonString() == "2026-03-05T06:02:00Z"
    assert not (tmp_path / "list.rejects.csv").exists()


def test_a_bad_row_never_stops_the_others(platform: Platform, tmp_path: Path) -> None:
    """Two are refused here, one by the service: all three stand in the rejects file as they were."""
    rows = [dispense(n) for n in range(1, 1001)]
    rows[10] = dispense(11, at="5.3.2026")
    rows[400] = dispense(401, site="hospital-z")
    rows[999] = "too,short\n"
    file = write(tmp_path / "list.csv", DISPENSES + "".join(rows))
    result = platform.bench.run("feed", "dispenses", file, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["rows"], document["taken"], document["rejected"]) == (1000, 997, 3)
    found = rejects(tmp_path / "list.rejects.csv")
    assert [(row["file"], row["row"], row["field"], row["rule"]) for row in found] == [
        ("list.csv", "12", "at", "AMBIGUOUS_DATE"),
        ("list.csv", "402", "site", "UNKNOWN_SITE"),
        ("list.csv", "1001", "", "RAGGED"),
    ]
    assert [row["order"] for row in found[:2]] == ["RX-11", "RX-401"]
    assert found[0]["at"] == "5.3.2026"
    assert "hospital-a" in found[1]["message"]
    assert len(platform.of(trace.DispenseRecorded)) == 997


def test_the_mended_rejects_file_is_fed_like_any_other(platform: Platform, tmp_path: Path) -> None:
    text = "lot;order;site;pseudonym;at;数量 (片)\n" + ";".join(dispense(1).strip().split(",")) + ";1.234\n"
    file = write(tmp_path / "list.csv", text)
    assert platform.bench.run("feed", "dispenses", file).exit_code == 1
    mended = tmp_path / "list.rejects.csv"
    assert rejects_line(mended).endswith(";1.234")
    mended.write_text(mended.read_text(encoding="utf-8").replace("1.234", "1,2"), encoding="utf-8")
    result = platform.bench.run("feed", "dispenses", str(mended))
    assert result.exit_code == 0, result.output
    assert platform.of(trace.DispenseRecorded)[0].quantity.value == 1.2
    assert platform.of(trace.DispenseRecorded)[0].quantity.unit == "{tablet}"


def rejects_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[1]


def test_an_older_rejects_file_is_kept_and_a_strangers_file_is_never_written_over(
    platform: Platform, tmp_path: Path
) -> None:
    file = write(tmp_path / "list.csv", DISPENSES + dispense(1, at="5.3.2026"))
    platform.bench.run("feed", "dispenses", file)
    first = (tmp_path / "list.rejects.csv").read_bytes()
    platform.bench.run("feed", "dispenses", file)
    assert (tmp_path / "list.rejects.csv.old").read_bytes() == first
    precious = tmp_path / "precious.csv"
    precious.write_text("mine\n")
    result = platform.bench.run("feed", "dispenses", file, "--rejects", str(precious))
    assert (result.exit_code, precious.read_text()) == (2, "mine\n")
    assert "exists and is no rejects file" in result.stderr
    result = platform.bench.run("feed", "dispenses", file, "--rejects", file)
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_dry_run_sends_nothing_and_judges_everything(platform: Platform, tmp_path: Path) -> None:
    platform.bench.environment["PHARMALOOP_ENDPOINTS"] = ""
    file = write(tmp_path / "list.csv", DISPENSES + dispense(1) + dispense(2, at="5.3.2026"))
    result = platform.bench.run("feed", "dispenses", file, "--dry-run", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["taken"], document["rejected"]) == (1, 1, 1)
    (told,) = document["files"]
    assert told["first"][0]["order"] == "RX-1"
    assert told["first_rejects"] == [
        {"row": 3, "field": "at", "rule": "AMBIGUOUS_DATE", "message": told["first_rejects"][0]["message"]}
    ]
    assert platform.bench.fake.requests == []
    assert [path.name for path in tmp_path.glob("**/*.csv")] == ["list.csv"]
    assert platform.bench.run("feed", "dispenses", file, "--dry-run").exit_code == 1
    mine = tmp_path / "mine.csv"
    assert platform.bench.run("feed", "dispenses", file, "--dry-run", "--rejects", str(mine)).exit_code == 1
    assert len(rejects(mine)) == 1


def test_each_row_of_materials_is_one_edge(platform: Platform, tmp_path: Path) -> None:
    """One record of the source fills two rows: neither may swallow the other."""
    text = (
        "lot,input_lot,input_item,quantity (kg),input_quantity,input_unit,at,record\n"
        "G-1,R-1,lactose,50,20000,g,2026-03-05,WO-1\n"
        "G-1,R-2,starch,50,30,kg,2026-03-05,WO-1\n"
        "R-1,,,,,,2026-02-01,\n"
    )
    mapping = write(
        tmp_path / "map.yaml",
        "constants: {owner: maker-1, scheme: item, item: granulate, "
        "input_owner: maker-1, input_scheme: item}\n"
        "units: {input_quantity: kg}\nzone: Asia/Shanghai\n",
    )
    file = write(tmp_path / "made.csv", text)
    result = platform.bench.run("feed", "materials", file, "-m", mapping)
    assert result.exit_code == 0, result.output
    first, second, raw = platform.of(trace.MaterialRecorded)
    assert (first.lot, first.inputs[0].lot) == ("maker-1/item/granulate/G-1", "maker-1/item/lactose/R-1")
    assert (first.inputs[0].quantity.value, first.inputs[0].quantity.unit) == (20, "kg")
    assert (second.inputs[0].lot, len(raw.inputs)) == ("maker-1/item/starch/R-2", 0)
    assert first.record != second.record
    assert all(fact.record.startswith("WO-1#") for fact in (first, second))


def test_the_same_line_in_another_file_is_the_same_fact(platform: Platform, tmp_path: Path) -> None:
    head, line = "lot,input_lot,at\n", "a/b/c/G-1,a/b/d/R-1,2026-03-05T00:00Z\n"
    one = write(tmp_path / "march.csv", head + line)
    other = write(tmp_path / "all.csv", head + "a/b/c/G-2,a/b/d/R-1,2026-03-06T00:00Z\n" + line)
    assert platform.bench.run("feed", "materials", one, other).exit_code == 0
    assert len(platform.of(trace.MaterialRecorded)) == 2


def test_patients_go_to_their_site_and_what_is_personal_is_sealed(platform: Platform, tmp_path: Path) -> None:
    text = (
        "受试者编号,医院编码,知情同意,登记日期,年龄,性别,姓名\n"
        f"P-1,{SITE},是,2026年3月1日,63,女,张三\n"
        f"P-2,{SITE},否,2026年3月1日,,,李四\n"
        "P-3,hospital-z,是,2026年3月1日,,,王五\n"
        f"P-4,{SITE},是,2026年3月1日,140,男,赵六\n"
        f"P-5,{SITE},是,2026年3月1日,,男,钱七\n"
    )
    file = tmp_path / "patients.csv"
    file.write_bytes(text.encode("gb18030"))
    result = platform.bench.run("feed", "patients", str(file), "--zone", "Asia/Shanghai", "--json")
    (told,) = json.loads(result.stdout)["files"]
    assert (result.exit_code, told["ignored_columns"]) == (1, ["姓名"])
    assert [(one["row"], one["field"], one["rule"]) for one in told["first_rejects"]] == [
        (5, "age", "OUT_OF_RANGE"),
        (6, "age", "REQUIRED"),
        (4, "site", "UNKNOWN_SITE"),
    ]
    assert "no hospital 'hospital-z' here; known: hospital-a" in told["first_rejects"][2]["message"]
    first, second = platform.of(clinical.SubjectRecorded)
    assert (first.pseudonym, first.consent, first.HasField("profile")) == ("P-1", True, True)
    assert (second.pseudonym, second.consent, second.HasField("profile")) == ("P-2", False, False)
    sent = b"".join(request.SerializeToString() for _, request in platform.bench.fake.requests)
    assert "张三".encode() not in sent


def test_parquet_is_fed_like_csv(platform: Platform, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "lot": [LOT] * 3,
        "order": pa.array([1001, 1002, None]),
        "site": [SITE] * 3,
        "pseudonym": ["P-1", "P-2", "P-3"],
        "at": pa.array([1_772_690_520_000_000_000] * 3, pa.timestamp("ns", "UTC")),
        "quantity": [54.0, float("nan"), 1.0],
        "unit": ["mg"] * 3,
    }
    file = tmp_path / "list.parquet"
    pq.write_table(pa.table(columns), file)
    result = platform.bench.run("feed", "dispenses", str(file), "--json")
    assert json.loads(result.stdout)["files"][0]["rejected"] == {"NOT_FINITE": 1, "REQUIRED": 1}
    (fact,) = platform.of(trace.DispenseRecorded)
    assert (fact.order, fact.quantity.value) == ("1001", 54)
    found = rejects(tmp_path / "list.rejects.csv")
    assert [(row["row"], row["field"], row["order"], row["pseudonym"]) for row in found] == [
        ("2", "quantity", "1002", "P-2"),
        ("3", "order", "", "P-3"),
    ]


def test_a_pharmacy_may_not_know_the_patient_and_a_hospital_must(platform: Platform, tmp_path: Path) -> None:
    """A dispense without its patient is recorded: the platform counts it as one to be explained."""
    file = write(tmp_path / "list.csv", DISPENSES + dispense(1, pseudonym="") + dispense(2, site=""))
    assert platform.bench.run("feed", "dispenses", file).exit_code == 0
    told = platform.of(trace.DispenseRecorded)
    assert [(fact.site, fact.pseudonym) for fact in told] == [(SITE, ""), ("", "P-2")]
    assert platform.bench.run("feed", "dispenses", file, "--as", "hospital").exit_code == 1
    assert platform.of(clinical.MedicationRecorded) == []


def test_a_column_that_is_expected_is_left_out_only_on_purpose(platform: Platform, tmp_path: Path) -> None:
    file = write(tmp_path / "list.csv", f"lot,order,who,at\n{LOT},RX-1,P-1,2026-03-05T14:02Z\n")
    result = platform.bench.run("feed", "dispenses", file)
    assert result.exit_code == 2
    assert "no column was found for site, pseudonym" in result.stderr
    mapping = write(tmp_path / "map.yaml", "columns: {site: , pseudonym: }")
    assert platform.bench.run("feed", "dispenses", file, "-m", mapping).exit_code == 0


def test_a_service_that_says_no_to_everything_stops_the_feed(platform: Platform, tmp_path: Path) -> None:
    platform.failing = 0, Forbidden("you may not")
    file = write(tmp_path / "list.csv", DISPENSES + dispense(1))
    result = platform.bench.run("feed", "dispenses", file)
    assert (result.exit_code, result.stdout) == (1, "")
    said, then = result.stderr.splitlines()
    assert said == "pharmaloop: you may not (PERMISSION_DENIED)"
    assert then == "  next: another person has to do it: --actor says who you are"


def test_nothing_but_a_sentence_when_nobody_listens(platform: Platform, tmp_path: Path) -> None:
    platform.bench.environment["PHARMALOOP_ENDPOINTS"] = json.dumps({"traceability": "127.0.0.1:1"})
    file = write(tmp_path / "list.csv", DISPENSES + dispense(1))
    result = platform.bench.run("feed", "dispenses", file)
    assert result.exit_code == 3
    assert "traceability at 127.0.0.1:1 (from PHARMALOOP_ENDPOINTS) does not answer" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name a file to feed"),
        (("list.csv",), "does not exist"),
        (("{file}", "{file}", "--rejects", "r.csv"), "--rejects is for one file"),
        (("{file}", "--delimiter", "ab"), "a delimiter is one character"),
        (("{file}", "--zone", "Mars/Olympus"), "is no time zone"),
        (("{file}", "--encoding", "klingon"), "is no text encoding"),
    ],
)
def test_a_command_line_that_is_wrong_says_how(
    platform: Platform, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    file = write(tmp_path / "mine.csv", DISPENSES + dispense(1))
    result = platform.bench.run("feed", "dispenses", *(part.format(file=file) for part in arguments))
    assert result.exit_code == 2
    assert told in result.stderr
    assert platform.bench.fake.requests == []
