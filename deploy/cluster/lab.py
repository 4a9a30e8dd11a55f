"""A cluster for one test run: `with Lab() as lab: lab.helm("install", ...)`.

The server, its admission, its garbage collection and the scheduler are real;
containers never run, and a pod is Ready because a stage says so (see
`deploy.cluster.stages`, and the README beside this file for what that proves).
"""

import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.cluster import build
from deploy.cluster.client import Client, Object
from deploy.cluster.control_plane import ControlPlane

ZONES = ("zone-a", "zone-b", "zone-c")
NODES_PER_ZONE = 2
#: What each node has to give; nothing runs, but the scheduler counts.
CAPACITY = {"cpu": "16", "memory": "64Gi", "pods": "110"}


class Lab(Client):
    """A cluster that lives as long as the `with` block, or ends with the process that made it."""

    def __init__(
        self, version: str = build.NEWEST, *, operators: Iterable[str] = (), zones: Iterable[str] = ZONES
    ) -> None:
        """`version` is one of `build.VERSIONS`, `operators` are of `crds.OPERATORS`. Raises BuildError."""
        self.version = build.version_of(version)
        #: How long the last start took, without building.
        self.seconds = 0.0
        self._operators, self._zones = tuple(operators), tuple(zones)
        self._programs = build.programs(self.version)
        folder = Path(tempfile.mkdtemp(prefix="pharmaloop-lab-"))
        super().__init__(folder, folder / "admin.conf")
        self._control_plane = ControlPlane(self._programs, folder)

    def __enter__(self) -> Self:
        started = time.monotonic()
        try:
            self._control_plane.start(tied=True)
            furnish(self, self._control_plane.storage, self._zones)
            self.install(self._operators)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.seconds = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control_plane.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def furnish(client: Client, storage: Path, zones: Iterable[str] = ZONES) -> None:
    """Give a fresh cluster nodes in the zones and a default storage class; returns when pods can start."""
    client.apply(storage)
    client.create(nodes(zones))
    client.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
    client.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=default", "--timeout=60s")


def nodes(zones: Iterable[str]) -> list[Object]:
    """Nodes of the zones, as kubelets would register them."""
    return [_node(f"{zone}-{number}", zone) for zone in zones for number in range(1, NODES_PER_ZONE + 1)]


def _node(name: str, zone: str) -> Object:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": "region-1",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": CAPACITY, "capacity": CAPACITY},
    }
