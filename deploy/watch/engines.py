"""Prometheus and Alertmanager as processes of this machine: on loopback, gone with their parent."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.watch import tools
from services.kit.testing.engines import HOST, last_lines, tied_to_parent

_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0


class NotStarted(RuntimeError):
    """A program did not become ready; the message has the end of its log."""


@contextmanager
def alertmanager(folder: Path, port: int) -> Iterator[str]:
    """Runs Alertmanager with the folder's file until the block ends; gives its address."""
    command = [
        tools.need("alertmanager"),
        f"--config.file={folder / 'alertmanager.yaml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={HOST}:{port}",
        # Alone: it needs no port for others of its kind.
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with _running(command, folder / "alertmanager.log", port):
        yield f"http://{HOST}:{port}"


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """Runs Prometheus with the folder's files until the block ends; gives its address."""
    command = [
        tools.need("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--storage.tsdb.retention.time=2d",
        "--storage.tsdb.retention.size=512MB",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]
    with _running(command, folder / "prometheus.log", port):
        yield f"http://{HOST}:{port}"


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(tied_to_parent(command), stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(process, log, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", log: Path, port: int) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/-/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise NotStarted(f"{log.stem} did not become ready on port {port}:\n{last_lines(log)}")
