"""Start and stop etcd, the three parts of Kubernetes and the stand-in kubelets on free ports of loopback.

The parts are killed rather than asked to stop: a polite stop takes ten seconds,
and nothing of what they hold is wanted afterwards.
"""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.cluster import identity, stages
from deploy.cluster.build import Programs
from services.kit.testing.engines import free_port, last_lines, tied_to_parent

READY_SECONDS = 120.0
#: Without these the controller manager takes seconds more until a namespace has its account.
_BRISK = ("--kube-api-qps=500", "--kube-api-burst=500")


class ClusterError(RuntimeError):
    """The cluster does not start or does not answer; the message names the part and what its log says."""


@dataclass(frozen=True, slots=True)
class Ports:
    etcd: int
    etcd_peer: int
    server: int
    manager: int
    scheduler: int


def free_ports() -> Ports:
    return Ports(*(free_port() for _ in range(5)))


class ControlPlane:
    """The five processes of one cluster; `folder` holds their files, logs and process ids."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.folder = folder
        self.address = ""
        self._programs = programs
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def admin(self) -> Path:
        """The kubeconfig file of the one who may do everything."""
        return self.folder / "admin.conf"

    @property
    def storage(self) -> Path:
        """The storage class, to be applied."""
        return self.folder / "storage.yaml"

    def forget(self) -> None:
        """Drop what an earlier run left in the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *, tied: bool) -> None:
        """Return when the server is ready; `tied` processes end with this one. Raises ClusterError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports()
        self.address = f"https://127.0.0.1:{ports.server}"
        identity.write(self.folder, self.address)
        stages.write(self._programs.stages, self.folder / "stages.yaml", self.storage)
        try:
            self._run("etcd", self._etcd(ports), tied=tied)
            self._run("kube-apiserver", self._server(ports), tied=tied)
            self._wait("kube-apiserver", self._server_is_ready)
            for part, port in (
                ("kube-controller-manager", ports.manager),
                ("kube-scheduler", ports.scheduler),
            ):
                self._run(part, [*self._client(part, port), *_BRISK, *self._more(part)], tied=tied)
            self._run("kwok", self._kwok(), tied=tied)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise ClusterError when one of the parts has ended."""
        for part, child in self._children.items():
            if (status := child.poll()) is not None:
                raise ClusterError(f"{part} ended with {status}; its log says:\n{self._log_of(part)}")

    def stop(self) -> None:
        """Kill the parts, last started first."""
        for child in reversed(self._children.values()):
            child.kill()
            child.wait()
        self._children.clear()
        (self.folder / "pids.json").unlink(missing_ok=True)

    def _run(self, part: str, arguments: list[str], *, tied: bool) -> None:
        command = [str(self._programs[part]), *arguments]
        with (self.folder / f"{part}.log").open("wb") as log:
            self._children[part] = subprocess.Popen(
                tied_to_parent(command) if tied else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        write_pids(self.folder, [child.pid for child in self._children.values()])

    def _wait(self, part: str, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{part} is not ready after {READY_SECONDS:.0f} s; its log says:\n{self._log_of(part)}"
                )
            time.sleep(0.1)

    def _server_is_ready(self) -> bool:
        trust = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=5, context=trust) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _log_of(self, part: str) -> str:
        return last_lines(self.folder / f"{part}.log")

    def _etcd(self, ports: Ports) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
        return [
            "--name=test",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
        ]

    def _server(self, ports: Ports) -> list[str]:
        file = self.folder.joinpath
        return [
            f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={ports.server}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={file('server.crt')}",
            f"--tls-private-key-file={file('server.key')}",
            f"--client-ca-file={file('ca.crt')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={file('sa.pub')}",
            f"--service-account-signing-key-file={file('sa.key')}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
        ]

    def _client(self, part: str, port: int) -> list[str]:
        own = self.folder / f"{part}.conf"
        files = [f"--{kind}kubeconfig={own}" for kind in ("", "authentication-", "authorization-")]
        return [*files, "--bind-address=127.0.0.1", f"--secure-port={port}", "--leader-elect=false"]

    def _more(self, part: str) -> list[str]:
        if part != "kube-controller-manager":
            return []
        return [
            "--use-service-account-credentials=true",
            # Where kwok gets no turn for a while its nodes must not be given up: it never makes a pod
            # ready a second time.
            "--node-monitor-grace-period=1h",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
        ]

    def _kwok(self) -> list[str]:
        return [
            f"--kubeconfig={self.admin}",
            "--manage-all-nodes=true",
            "--node-ip=127.0.0.1",
            "--server-address=",
            f"--config={self.folder / 'stages.yaml'}",
        ]


def write_pids(folder: Path, pids: list[int]) -> None:
    """Note the processes with the time of their start, so that a number used again is never taken for one."""
    known = {pid: born for pid in pids if (born := _born(pid))}
    (folder / "pids.json").write_text(json.dumps(known))


def running(folder: Path) -> list[int]:
    """The noted processes that still run, last started first."""
    file = folder / "pids.json"
    noted: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return [int(pid) for pid, born in reversed(noted.items()) if _born(int(pid)) == born]


def kill(folder: Path) -> int:
    """Kill the noted processes; returns how many there were."""
    pids = running(folder)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    (folder / "pids.json").unlink(missing_ok=True)
    return len(pids)


def _born(pid: int) -> str:
    """When that process started, in the kernel's ticks; empty when there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
