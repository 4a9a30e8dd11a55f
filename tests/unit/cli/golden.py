"""Recorded outputs of the command: what is on a terminal of 80 and of 120 columns, and in a pipe.

The answers of the services stand in `golden_outputs/answers.json`, in the contract's JSON.
`python -m tests.unit.cli.golden` writes the outputs anew; look at what changed.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from services.kit.errors import Rejected
from tests.unit.cli.support import Bench, Fake, message_of

FOLDER = Path(__file__).parent / "golden_outputs"
LOT = "maker-1/item/granulate/G-0041"
COMMANDS: dict[str, tuple[str, ...]] = {
    "run-list": ("run", "list"),
    "run-show": ("run", "show", "7b0c7a52-52c0-4d0e-9c73-0e8d1b5b9f10"),
    "deviation-list": ("deviation", "list"),
    "lot-show": ("lot", "show", LOT),
    "lot-trace": ("lot", "trace", LOT),
    "alert-list": ("alert", "list"),
    "capa-list": ("capa", "list"),
    "twin-show": ("twin", "show", "maker-1/item/broth/B-0007"),
    "plan-list": ("plan", "list", "hospital-a"),
    "hypothesis-list": ("hypothesis", "list"),
    "nothing-to-list": ("suspect", "list"),
    "refused": ("deviation", "confirm", LOT, "d-0001", "--reason", "seen"),
    "no-such-lot-key": ("lot", "show", "G-0041"),
    "help": ("--help",),
    "help-of-a-noun": ("lot", "--help"),
    "help-of-a-verb": ("deviation", "classify", "--help"),
}
#: Columns of a terminal; 0 is a pipe.
WIDTHS = (80, 120, 0)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def answer_from_file(fake: Fake) -> None:
    """Have the services answer as it is recorded; what is decided is refused."""
    for method, told in json.loads((FOLDER / "answers.json").read_text()).items():
        fake.answers[method] = _answer(method, told)

    def refuse(_: Any) -> Any:
        raise Rejected("ALREADY_JUDGED", "the deviation was confirmed by qa", "deviation")

    fake.answers["ConfirmDeviation"] = refuse


def _answer(method: str, told: Any) -> Any:
    response = message_of(f"{method}Response")
    if isinstance(told, list):
        return lambda request: [ParseDict(part, response()) for part in told]
    return lambda request: ParseDict(told, response())


def output(bench: Bench, command: tuple[str, ...], width: int) -> str:
    """What the command prints, and its exit status where it is not 0."""
    bench.environment |= {"TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": str(width or 80)}
    bench.environment["TTY_COMPATIBLE"] = "1" if width else "0"
    result = bench.run(*command)
    status = f"[exit status {result.exit_code}]\n" if result.exit_code else ""
    return "\n".join(line.rstrip() for line in _ESCAPES.sub("", result.output).splitlines()) + f"\n{status}"


def path_of(name: str, width: int) -> Path:
    return FOLDER / f"{name}.{width or 'piped'}.txt"


def _renew() -> None:
    fake = Fake()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[fake])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    answer_from_file(fake)
    with tempfile.TemporaryDirectory() as state:
        bench = Bench(fake, f"127.0.0.1:{port}", Path(state))
        for name, command in COMMANDS.items():
            for width in WIDTHS:
                path_of(name, width).write_text(output(bench, command, width))
    server.stop(None)


if __name__ == "__main__":
    _renew()
    print(f"{len(COMMANDS) * len(WIDTHS)} outputs are in {FOLDER}; look at what changed", file=sys.stderr)
