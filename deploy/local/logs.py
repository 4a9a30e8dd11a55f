"""Show the logs of all processes as one stream, each line under its process's name.

Services log for people to read, so all of it is shown. Kafka and MongoDB log
for their own operators: of theirs, warnings and errors are shown, and the files
hold the rest.
"""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
RESET = "\033[0m"
# Logged as warnings at every start and every stop of a broker that is its own controller.
KAFKA_USUAL = (
    "Performing controller activation",
    "Attempting to close NetworkClient that has already been closed",
)
KAFKA_LEVEL = re.compile(r"\[[^\]]+\] ([A-Z]+) ")


class Printer:
    """Writes prefixed lines; safe to use from several threads. Colours only where a person looks."""

    def __init__(self, names: Iterable[str], out: TextIO = sys.stdout) -> None:
        self._names = list(names)
        self._width = max(map(len, self._names), default=0)
        self._out = out
        self._coloured = out.isatty()
        self._lock = threading.Lock()

    def line(self, name: str, text: str) -> None:
        with self._lock:
            self._out.write(f"{self._prefix(name)} {text}\n")
            self._out.flush()

    def _prefix(self, name: str) -> str:
        prefix = f"{name:<{self._width}} |"
        if not self._coloured:
            return prefix
        colour = COLOURS[self._names.index(name) % len(COLOURS)] if name in self._names else 37
        return f"\033[{colour}m{prefix}{RESET}"


Filter = Callable[[str], str | None]


def everything(line: str) -> str | None:
    return line


@dataclass(slots=True)
class KafkaWarnings:
    """Warnings and errors, with the lines (a stack trace) that follow one."""

    _shown: bool = field(default=False, init=False)

    def __call__(self, line: str) -> str | None:
        if level := KAFKA_LEVEL.match(line):
            usual = any(text in line for text in KAFKA_USUAL)
            self._shown = level.group(1) in ("WARN", "ERROR", "FATAL") and not usual
        return line if self._shown else None


def mongod_warnings(line: str) -> str | None:
    """Warnings and errors; not what mongod has to say at every start about a machine that is no server."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if entry.get("s") not in ("W", "E", "F") or "startupWarnings" in entry.get("tags", []):
        return None
    return f"{entry['t']['$date']} {entry['s']} {entry['msg']} {json.dumps(entry.get('attr', {}))}"


def filter_for(name: str) -> Filter:
    quiet: dict[str, Filter] = {"kafka": KafkaWarnings(), "mongod": mongod_warnings}
    return quiet.get(name, everything)


class LogTail:
    """Follows one file from where it ends now; it may not exist yet, be rotated or be emptied."""

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self._file = file
        self._filter = filter_for(name)
        self._rest = b""
        self._inode, self._offset = self._look()

    def new_lines(self) -> list[str]:
        inode, size = self._look()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset = inode, 0
        if size == self._offset:
            return []
        with self._file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        shown = (self._filter(line.decode(errors="replace").rstrip()) for line in lines)
        return [line for line in shown if line]

    def _look(self) -> tuple[int, int]:
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_ino, stat.st_size


class Follower(threading.Thread):
    """Prints what the processes log until it is told to stop, and then what is left."""

    def __init__(self, tails: list[LogTail], printer: Printer) -> None:
        super().__init__(name="log-follower", daemon=True)
        self._tails = tails
        self._printer = printer
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.1):
            self._print_new()
        self._print_new()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _print_new(self) -> None:
        for tail in self._tails:
            for line in tail.new_lines():
                self._printer.line(tail.name, line)
