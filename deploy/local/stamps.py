"""Remember what has been made from which inputs, so that nothing is made twice.

A stamp is a file under `.tools/stamps` that holds the hash of a step's inputs.
Standard library only: the set-up runs before anything is installed.
"""

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAMPS = ROOT / ".tools" / "stamps"


def digest(files: Iterable[Path], *facts: str) -> str:
    """A hash over the names and contents of files, and over whatever else the outcome depends on."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    for fact in facts:
        total.update(f"{fact}\0".encode())
    return total.hexdigest()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time, by a file that is made where it is missing: tests run in several."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget(name: str) -> None:
    (STAMPS / name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Stamp:
    """One step: the hash of its inputs, and a file whose absence shows that it must be made again."""

    name: str
    inputs: str
    output: Path

    def is_current(self) -> bool:
        return self.output.exists() and self._file.exists() and self._file.read_text() == self.inputs

    def write(self) -> None:
        STAMPS.mkdir(parents=True, exist_ok=True)
        self._file.write_text(self.inputs)

    @property
    def _file(self) -> Path:
        return STAMPS / self.name
