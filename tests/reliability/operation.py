"""What the tests of bad operation share: engines that ask for passwords, and a service as a process."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.health import health
from pharmaloop.common.v1 import service_pb2 as api
from pharmaloop.common.v1 import service_pb2_grpc as api_grpc
from services.kit.rpc.client import metadata, sync_channel
from services.kit.testing.engines import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """(key and certificate of a broker at 127.0.0.1, certificate alone): it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    store, authority = folder / "store.pem", folder / "ca.pem"
    store.write_bytes(private + public)
    authority.write_bytes(public)
    return store, authority


class Process:
    """`python -m services.<name>.main`, with its log and its word about itself."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.child = child
        self._log = log
        self.address = f"127.0.0.1:{port}"

    def output(self) -> str:
        return self._log.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one kind; every line must be of the structured log."""
        lines = [json.loads(line) for line in self.output().splitlines()]
        return [line for line in lines if line["event"] == event]

    def exit_code(self, seconds: float = PATIENCE) -> int:
        return self.child.wait(seconds)

    def health(self) -> str:
        return health(self.address)

    def status(self) -> api.GetStatusResponse:
        with sync_channel(self.address) as channel:
            stub = api_grpc.StatusServiceStub(channel)
            answer: api.GetStatusResponse = stub.GetStatus(
                api.GetStatusRequest(), timeout=5, metadata=metadata("test")
            )
            return answer

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Until it is so; fails with the process's last words."""
        end = time.monotonic() + PATIENCE
        while not _is(condition):
            assert self.child.poll() is None, f"it ended before {what}:\n{self.output()[-3000:]}"
            assert time.monotonic() < end, f"not in time: {what}:\n{self.output()[-3000:]}"
            time.sleep(0.1)

    def wait_ready(self) -> None:
        self.wait("ready", lambda: self.health() == "SERVING")

    def wait_reason(self, words: str) -> str:
        """Until its status gives a reason with these words, and health agrees; answers the reason."""
        self.wait(words, lambda: any(words in reason for reason in self.status().not_ready))
        self.wait("NOT_SERVING", lambda: self.health() == "NOT_SERVING")
        return next(reason for reason in self.status().not_ready if words in reason)


def _is(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (grpc.RpcError, StopIteration):
        return False


@contextmanager
def process(
    environment: Mapping[str, str], folder: Path, name: str = "", service: str = "rnd"
) -> Iterator[Process]:
    """A service as a process of its own; killed at the end where it still runs."""
    variable = f"PHARMALOOP_{service.upper()}_GRPC_PORT"
    port = int(environment.get(variable) or free_port())
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PHARMALOOP_", "KAFKA_", "MONGODB_"))}
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name or service}.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}.main"],
            cwd=ROOT,
            env={**ours, variable: str(port), **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Process(child, log, port)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)
            child.kill()
            child.wait()


def alive(file: Path, seconds: float) -> tuple[int, str]:
    """(exit code, its one line) of the liveness probe."""
    done = subprocess.run(
        [sys.executable, "-m", "services.kit.alive", str(file), "--older-than", str(seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()
