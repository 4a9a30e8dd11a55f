"""A stranger's plant history and dispensing list become a recall drill: the steps of docs/data-formats.md.

The history is sixteen real dryer runs of process-improve 2.2.0 as a plant might export them (GB18030,
semicolons, local times); the run to doubt is a seventeenth with a lasting step in one tag.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.world.plant import DryerRun, read_runs
from tests.loops.stack import Stack, running_stack

UNITS = {
    "CollectorTankLevel": "%",
    "DifferentialPressure": "mbar",
    "DryerPressure": "mbar",
    "AgitatorPower": "A",
    "AgitatorTorque": "/min",
    "AgitatorSpeed": "%",
    "JacketTemperatureSP": "℃",
    "JacketTemperature": "℃",
    "DryerTemperatureSP": "℃",
    "DryerTemp": "℃",
}
GOOD, DOUBTED = range(1, 17), 39
TAG, STEP = "JacketTemperature", 40.0
BEGIN = datetime(2026, 3, 5, 8)
MAPPINGS = {
    "history.yaml": "columns: {equipment: 设备, lot: 批号, at: 时间}\n"
    "constants: {owner: maker-1, scheme: item, item: granulate}\nzone: Asia/Shanghai\n"
    "set_points: [JacketTemperatureSP, DryerTemperatureSP]\ndecimal: '.'\n",
    "materials.yaml": "constants: {owner: maker-1, scheme: gtin, input_owner: maker-1, input_scheme: item, "
    "input_item: granulate}\nzone: Asia/Shanghai\n",
    "dispenses.yaml": "constants: {owner: maker-1, scheme: gtin, site: hospital-a}\nzone: Asia/Shanghai\n",
    "patients.yaml": "constants: {site: hospital-a}\nzone: Asia/Shanghai\n",
}
DOC = Path(__file__).parents[2] / "docs" / "data-formats.md"
GTIN = "6901234500547"
ROOT = f"maker-1/item/granulate/G-{DOUBTED:04d}"
PACKED = f"maker-1/gtin/0{GTIN}/A-0001"


def write(path: Path, header: list[str], rows: Iterable[list[Any]], encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *rows])


def write_runs(path: Path, numbers: Iterable[int], change: Callable[[DryerRun, str, int], float]) -> None:
    """Runs one after the other, as the historian exports them."""

    def rows() -> Iterable[list[Any]]:
        for number in numbers:
            run, began = read_runs()[number], BEGIN + timedelta(hours=6 * number)
            for sample, seconds in enumerate(run.times):
                at = began + timedelta(seconds=seconds)
                values = [change(run, tag, sample) for tag in UNITS]
                yield ["plant-1/dryer-1", f"G-{number:04d}", f"{at:%Y/%m/%d %H:%M:%S}", *values]

    header = ["设备", "批号", "时间", *(f"{tag} [{unit}]" for tag, unit in UNITS.items())]
    write(path, header, rows(), "gb18030")


def as_it_was(run: DryerRun, tag: str, sample: int) -> float:
    return run.columns[tag][sample]


def with_a_step(run: DryerRun, tag: str, sample: int) -> float:
    raised = STEP if tag == TAG and sample >= len(run.times) // 2 else 0.0
    return run.columns[tag][sample] + raised


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The stranger's files: twelve patients got the doubted lot, six another; one of the twelve says no."""
    (tmp_path / "own").mkdir()
    own = tmp_path / "own"
    for name, text in MAPPINGS.items():
        (own / name).write_text(text, encoding="utf-8")
    write_runs(own / "history.csv", GOOD, as_it_was)
    write_runs(own / "drill.csv", [DOUBTED], with_a_step)
    made = [["A-0001", GTIN, f"G-{DOUBTED:04d}", "2026-03-20"], ["A-0002", GTIN, "G-0001", "2026-03-20"]]
    write(own / "materials.csv", ["批号", "产品编码", "原料批号", "生产日期"], made)
    given = [
        [f"RX-{n}", f"P-{n}", GTIN, "A-0001" if n < 12 else "A-0002", f"2026-04-01 09:{n:02}"]
        for n in range(18)
    ]
    write(own / "dispenses.csv", ["处方号", "受试者编号", "GTIN", "批号", "发药时间"], given)
    patients = [[f"P-{n}", "否" if n == 0 else "是", "2026-03-01"] for n in range(18)]
    write(own / "patients.csv", ["受试者编号", "知情同意", "登记日期"], patients)
    return own


def fed(stack: Stack, folder: Path, noun: str, file: str, *more: str) -> dict[str, Any]:
    mapping = "history" if noun == "readings" else noun
    code, document = stack.pharmaloop(
        "feed", noun, str(folder / f"{file}.csv"), "-m", str(folder / f"{mapping}.yaml"), *more
    )
    assert code == 0, document
    assert document["taken"] == document["rows"]
    found: dict[str, Any] = document
    return found


def until(ask: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.2)
    return found


def started_by_the_page() -> str:
    """The processes that the page starts for a drill: the platform without its simulated world."""
    (command,) = re.findall(r"make up ONLY=([\w.,-]+)", DOC.read_text(encoding="utf-8"))
    return str(command)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_own_files_become_a_recall_drill(tmp_path: Path, folder: Path) -> None:
    with running_stack(tmp_path / "state", "--only", started_by_the_page()) as stack:
        for noun in ("materials", "patients", "dispenses"):
            fed(stack, folder, noun, noun)
        fed(stack, folder, "dispenses", "dispenses", "--as", "hospital")
        history = fed(stack, folder, "readings", "history", "--train")
        assert list(history["models"]) == ["maker-1/item/granulate"]
        assert history["rows"] == sum(len(read_runs()[number].times) for number in GOOD)
        fed(stack, folder, "readings", "drill")

        def deviations() -> Any:
            return stack.pharmaloop("deviation", "list", "--state", "open")[1]["deviations"]

        found = {one["detected"]["tag"]: one["detected"] for one in until(deviations, "the deviation")}
        assert found[TAG]["lot"] == ROOT
        asked = ("deviation", "confirm", ROOT, found[TAG]["deviation"])
        code, _ = stack.pharmaloop(*asked, "--reason", "recall drill")
        assert code == 0

        def sealed() -> Any:
            runs = stack.pharmaloop("run", "list")[1]["runs"]
            return [run for run in runs if any(stage["name"] == "seal" for stage in run["stages"])]

        (run,) = until(sealed, "the sealed run")
        assert run["opened"]["lot"] == ROOT
        _, traced = stack.pharmaloop("lot", "trace", ROOT)
        assert {one["lot"] for one in traced["lots"]} == {ROOT, PACKED}
        assert {one["pseudonym"] for one in traced["dispenses"]} == {f"P-{n}" for n in range(12)}
        _, lot = stack.pharmaloop("lot", "show", PACKED)
        assert lot["quality"]["state"] == "LOT_STATE_HELD"
        again = fed(stack, folder, "dispenses", "dispenses")
        assert again["files"][0]["taken_before"] is True
