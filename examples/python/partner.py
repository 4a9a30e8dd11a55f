"""A partner's program: send dispenses from a CSV file, watch for held lots, read a lot's dossier.

    python partner.py send FILE.csv --to HOST:PORT [--actor NAME] [--batch ROWS]
    python partner.py watch --to HOST:PORT [--state FILE] [--product KEY] [--count LOTS]
    python partner.py dossier LOT --to HOST:PORT

Exit status: 0 done, 1 some rows were refused, 2 it could not be done.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc

COLUMNS = ["order", "lot", "site", "pseudonym", "at", "quantity", "unit"]
#: A call is given up after so many seconds, and tried so often in all.
CALL_SECONDS, ATTEMPTS = 10.0, 10
#: A subscription is renewed after so many seconds: it has a deadline like every call.
WATCH_SECONDS = 3600.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
#: Statuses after which the same request, sent again, has one effect and may succeed.
AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
#: Statuses after which a subscription goes on from its position: it changes nothing, it may always ask again.
GO_ON = AGAIN | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
KEEPALIVE = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]


class Failed(Exception):
    """It could not be done; the message says why."""


# -- calls ------------------------------------------------------------------


def wait(attempt: int, why: str, to: str) -> None:
    """Wait longer after every failure, and never as long as others do ("full jitter")."""
    seconds = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt))
    print(f"partner: {why}, again in {seconds:.1f} s at {to}", file=sys.stderr, flush=True)
    time.sleep(seconds)


def call(method: Callable[..., Any], request: Any, arguments: argparse.Namespace) -> Any:
    """One call with its deadline, sent again while that can help."""
    who = [("x-actor", arguments.actor)]
    for attempt in range(ATTEMPTS):
        try:
            return method(request, timeout=CALL_SECONDS, metadata=who)
        except grpc.RpcError as error:
            if error.code() not in AGAIN or attempt == ATTEMPTS - 1:
                raise Failed(told(error)) from None
            wait(attempt, error.code().name, arguments.to)
    raise AssertionError


def told(error: grpc.RpcError) -> str:
    """What a refused call says: reason, sentence and field."""
    reason, field = error.code().name, ""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            reason, field = info.reason, info.metadata.get("field", "")
    where = f" (field {field})" if field else ""
    return f"{reason}: {error.details()}{where}"


# -- send -------------------------------------------------------------------


@dataclass
class Progress:
    """How far the file was sent: everything up to `rows` was answered, and that is on disk."""

    rows: int = 0
    taken: int = 0
    refused: int = 0
    rejects_bytes: int = 0


def read_progress(path: Path, digest: str) -> Progress:
    """From the file; from the beginning where it is of another input or address, or no progress."""
    words = path.read_text(errors="replace").split() if path.exists() else []
    if len(words) != 5 or words[0] != digest or not all(word.isdecimal() for word in words[1:]):
        return Progress()
    return Progress(*map(int, words[1:]))


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step: after a crash it is the old one or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def dispense(row: dict[str, str], actor: str) -> events.DispenseRecorded:
    """The record of a row; ValueError(reason, field, description) where the row cannot be read."""
    record = events.DispenseRecorded(
        order=row["order"], lot=row["lot"], site=row["site"], pseudonym=row["pseudonym"], source=actor
    )
    try:
        at = datetime.fromisoformat(row["at"])
        record.at.at.FromDatetime(at.astimezone(UTC))
        record.at.offset_minutes = int(at.utcoffset().total_seconds() // 60)  # type: ignore[union-attr]
    except (ValueError, AttributeError):
        raise ValueError("NOT_A_MOMENT", "at", "write it as 2026-03-12T09:30:00+08:00") from None
    if row["quantity"]:
        try:
            value = float(row["quantity"])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError("NOT_A_NUMBER", "quantity", "write it as 28 or 7.5")
        record.quantity.CopyFrom(common.Quantity(value=value, unit=row["unit"]))
    return record


def request_id(rows: list[dict[str, str]]) -> str:
    """The same rows have the same id, in every run: a request that is sent again is known by it."""
    cells = "\x1e".join("\x1f".join(row[name] for name in COLUMNS) for row in rows)
    return "dispenses-" + hashlib.sha256(cells.encode()).hexdigest()[:32]


def batches(rows: list[dict[str, str]], first: int, size: int) -> Iterator[tuple[int, list[dict[str, str]]]]:
    for start in range(first, len(rows), size):
        yield start, rows[start : start + size]


def send(arguments: argparse.Namespace) -> int:
    source, actor = Path(arguments.file), arguments.actor
    size = whole("--batch", arguments.batch, 1)
    if not source.is_file():
        raise Failed(f"{source}: no such file; give the path of a CSV file")
    data = source.read_bytes()
    rows = read_rows(source.name, data)
    progress_file, rejects_file = Path(f"{source}.progress"), Path(f"{source}.rejects.csv")
    # Whom it was sent to, by whom, and what: sent to a sandbox, it is not sent to the platform.
    digest = hashlib.sha256(f"{arguments.to}\n{actor}\n".encode() + data).hexdigest()
    progress = read_progress(progress_file, digest)
    if 0 < progress.rows < len(rows):
        print(f"{source.name}: going on after row {progress.rows}", flush=True)
    with connect(arguments.to) as channel, open_rejects(rejects_file, progress) as rejects:
        method = traceability_grpc.TraceabilityServiceStub(channel).RecordDispense
        for start, batch in batches(rows, progress.rows, size):
            records, sent, refused = [], [], []
            for number, row in enumerate(batch, start + 1):
                try:
                    records.append(dispense(row, actor))
                    sent.append(number)
                except ValueError as error:
                    refused.append((number, *error.args))
            if records:
                request = traceability.RecordDispenseRequest(request_id=request_id(batch), dispenses=records)
                for no in call(method, request, arguments).receipt.refused:
                    refused.append((sent[no.index], no.reason, no.field.partition("].")[2], no.description))
            # What was refused first, then that these rows are done: a kill in between loses nothing.
            for number, *why in sorted(refused):
                row = rows[number - 1]
                csv.writer(rejects, lineterminator="\n").writerow([number, *why, *(row[c] for c in COLUMNS)])
            rejects.flush()
            os.fsync(rejects.fileno())
            progress.rows += len(batch)
            progress.taken += len(batch) - len(refused)
            progress.refused += len(refused)
            progress.rejects_bytes = rejects_file.stat().st_size
            line = [digest, progress.rows, progress.taken, progress.refused, progress.rejects_bytes]
            write_whole(progress_file, (" ".join(map(str, line)) + "\n").encode())
    where = f" ({rejects_file.name})" if progress.refused else ""
    print(f"{source.name}: {progress.rows} rows, {progress.taken} taken, {progress.refused} refused{where}")
    return 1 if progress.refused else 0


def read_rows(name: str, data: bytes) -> list[dict[str, str]]:
    """The rows of the file; Failed names the line that breaks a rule, and nothing of the file is sent."""
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Failed(f"{name}, line {line}: not UTF-8; save the file as UTF-8, and send it again") from None
    lines = lines_of(name, text)
    first = f"the first line names {','.join(COLUMNS)}"
    head_line, head = next(lines, (1, []))
    if not head:
        raise Failed(f"{name}, line 1: the file is empty; {first}")
    if missing := [column for column in COLUMNS if column not in head]:
        raise Failed(f"{name}, line {head_line}: no column {', '.join(missing)}; {first}")
    if twice := [column for column in COLUMNS if head.count(column) > 1]:
        raise Failed(f"{name}, line {head_line}: column {', '.join(twice)} twice; {first}, each once")
    rows = []
    for line, cells in lines:
        if len(cells) != len(head):
            counts = f"{len(cells)} cells where the first line has {len(head)}"
            raise Failed(f"{name}, line {line}: {counts}; mend the row, and send the file again")
        if not any(cells):
            raise Failed(f"{name}, line {line}: every cell is empty; remove the row, and send the file again")
        row = dict(zip(head, cells, strict=True))
        rows.append({column: row[column] for column in COLUMNS})
    return rows


def lines_of(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """The line in the file that a row begins at, and its cells; blank lines are passed over."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if cells:
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error:
        rule = "a quoted cell is not closed, or goes on behind its quotation mark"
        remedy = "write a mark inside a cell twice, and send the file again"
        raise Failed(f"{name}, line {line}: {rule}; {remedy}") from None


def open_rejects(path: Path, progress: Progress) -> TextIO:
    """The rejects as they were when the progress was written: what came later is written again."""
    if progress.rows and path.exists():
        os.truncate(path, progress.rejects_bytes)
    else:
        path.write_text(",".join(["row", "reason", "field", "description", *COLUMNS]) + "\n")
    return path.open("a", newline="", encoding="utf-8")


# -- watch ------------------------------------------------------------------


def watch(arguments: argparse.Namespace) -> int:
    """Tell of every held lot, from the first that the log holds, in this run or one before."""
    state, heard, attempt = Path(arguments.state), 0, 0
    newest: dict[str, int] = {}
    most = whole("--count", arguments.count, 0)
    request = production.WatchLotsRequest(states=[production.LOT_STATE_HELD])
    request.products.extend([arguments.product] if arguments.product else [])
    with connect(arguments.to) as channel:
        stub = production_grpc.ProductionServiceStub(channel)
        while True:
            if state.exists():
                request.ClearField("from_start")
                position, newest = read_state(state)
                request.after.CopyFrom(position)
            else:
                request.from_start = True
            try:
                who = [("x-actor", arguments.actor)]
                stream = stub.WatchLots(request, timeout=WATCH_SECONDS, metadata=who)
                for answer in stream:
                    attempt = 0
                    for change in answer.changes:
                        # Told again, or an older one behind a newer one. 0 is a platform without versions.
                        if 0 < change.version <= newest.get(change.lot, 0):
                            continue
                        newest[change.lot] = change.version
                        print(f"held {change.lot} since {stamp(change.at)}: {change.reason}", flush=True)
                        heard += 1
                    # Only now: after a kill before this line they are told again, and none is lost.
                    write_whole(state, state_bytes(answer.position, newest))
                    if most and heard >= most:
                        stream.cancel()
                        return 0
                why = "the stream ended"
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    raise Failed(f"{told(error)}; remove {state} to begin anew") from None
                if error.code() not in GO_ON:
                    raise Failed(told(error)) from None
                why = error.code().name
            wait(attempt, why, arguments.to)
            attempt = min(attempt + 1, ATTEMPTS)


def read_state(path: Path) -> tuple[Any, dict[str, int]]:
    """The stored position, and the newest version that was dealt with of each lot."""
    try:
        stored = production.WatchLotsResponse.FromString(path.read_bytes())
    except DecodeError:
        stored = production.WatchLotsResponse()
    if not stored.HasField("position"):
        raise Failed(f"{path}: no position is stored in it; remove it to begin anew")
    return stored.position, {change.lot: change.version for change in stored.changes}


def state_bytes(position: Any, newest: dict[str, int]) -> bytes:
    """Both in one message, so that both are replaced in one step. Who has a database keeps the version
    with the lot, and the position in the same transaction."""
    lots = [production.LotChange(lot=lot, version=version) for lot, version in newest.items()]
    return production.WatchLotsResponse(position=position, changes=lots).SerializeToString()


def stamp(at: Any) -> str:
    """RFC 3339 in whole seconds."""
    return datetime.fromtimestamp(at.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- dossier ----------------------------------------------------------------


def dossier(arguments: argparse.Namespace) -> int:
    with connect(arguments.to) as channel:
        method = traceability_grpc.TraceabilityServiceStub(channel).GetLotDossier
        found = call(method, traceability.GetLotDossierRequest(lot=arguments.lot), arguments).dossier
    print(f"lot {found.lot}")
    print(f"  state      {found.process.state or 'unknown'}")
    print(f"  dispensed  {'yes' if found.distribution.dispensed else 'no'}")
    print(f"  made from  {len(found.material.inputs) + found.material.inputs_left_out} lots")
    print(f"  made into  {len(found.material.outputs) + found.material.outputs_left_out} lots")
    print(f"  runs       {len(found.exposed.runs) + found.exposed.left_out}")
    for step in found.process.steps:
        print(f"  {stamp(step.at)} {step.what}" + (f": {step.why}" if step.why else ""))
    return 0


# -- the command line -------------------------------------------------------


def whole(option: str, given: str, least: int) -> int:
    """The number that an option gives; Failed where it is none."""
    if not given.isdecimal() or not given.isascii() or int(given) < least:
        raise Failed(f"{option} {given}: no whole number from {least} on; give one")
    return int(given)


def connect(to: str) -> grpc.Channel:
    return grpc.insecure_channel(to, options=KEEPALIVE)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="partner")
    commands = parser.add_subparsers(required=True)
    for run, positional in ((send, "file"), (watch, ""), (dossier, "lot")):
        command = commands.add_parser(run.__name__)
        if positional:
            command.add_argument(positional)
        command.add_argument("--to", required=True, metavar="HOST:PORT")
        command.add_argument("--actor", default="partner")
        command.set_defaults(run=run)
        if run is send:
            command.add_argument("--batch", default="500", metavar="ROWS")
        if run is watch:
            command.add_argument("--state", default="watch.position", metavar="FILE")
            command.add_argument("--product", default="", metavar="KEY")
            command.add_argument("--count", default="0", metavar="LOTS")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    try:
        return int(given.run(given))
    except (Failed, OSError) as error:
        print(f"partner: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
