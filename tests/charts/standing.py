"""A cluster that has a few objects and nothing else, for templates that look at what stands there already.

It answers discovery and reads of Helm's `lookup`, and takes nothing. What a real server says of the same
upgrades is tried under `tests/charts/e2e`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy.charts.render import NAMESPACE, RELEASE, UMBRELLA, Document, RenderError, environment
from deploy.local.kube_tools import helm

#: By API, the kinds that the server knows: all that the charts make.
_KINDS = {
    "v1": ("Secret", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "Service", "Pod"),
    "apps/v1": ("StatefulSet", "Deployment"),
    "batch/v1": ("Job",),
    "cert-manager.io/v1": ("Certificate",),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "monitoring.coreos.com/v1": ("PodMonitor", "PrometheusRule"),
    "networking.k8s.io/v1": ("NetworkPolicy", "Ingress"),
    "policy/v1": ("PodDisruptionBudget",),
}
_ABSENT = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
#: What the control plane itself puts into each namespace.
ACCOUNT: Document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}


def secret(name: str, **data: bytes) -> Document:
    told = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": told}


def owned(one: Document, release: str = RELEASE) -> Document:
    """The object with the marks that Helm gives it: another release would not take it up."""
    meta = one["metadata"]
    marks = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": NAMESPACE}
    labels = {**meta.get("labels", {}), "app.kubernetes.io/managed-by": "Helm"}
    return {
        **one,
        "metadata": {**meta, "labels": labels, "annotations": {**meta.get("annotations", {}), **marks}},
    }


def template(standing: Iterable[Document], values: Sequence[Path], sets: Sequence[str] = ()) -> str:
    """The platform's resources as an upgrade would make them where these objects stand."""
    files = [word for path in values for word in ("--values", str(path))]
    single = [word for one in sets for word in ("--set-json", one)]
    with _served(standing) as address:
        done = subprocess.run(
            [
                *(str(helm()), "template", RELEASE, str(UMBRELLA), "--namespace", NAMESPACE),
                *("--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address),
                *files,
                *single,
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**environment(), "KUBECONFIG": os.devnull},
        )
    if done.returncode:
        raise RenderError(done.stderr)
    return done.stdout


@contextmanager
def _served(standing: Iterable[Document]) -> Iterator[str]:
    answers = _answers(standing)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(_ABSENT if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Asked often whether it is to end: each of these clusters stands for one call.
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answers(standing: Iterable[Document]) -> Mapping[str, Document]:
    """By path: discovery, and each object."""
    groups = []
    for api in _KINDS:
        name, _, version = api.rpartition("/")
        told = {"groupVersion": api, "version": version}
        groups += [{"name": name, "versions": [told], "preferredVersion": told}] if name else []
    found: dict[str, Document] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for api, kinds in _KINDS.items():
        listed = [
            {"name": _plural(kind), "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
            for kind in kinds
        ]
        found[_root(api)] = {"kind": "APIResourceList", "groupVersion": api, "resources": listed}
    for one in standing:
        place = f"{_root(one['apiVersion'])}/namespaces/{NAMESPACE}/{_plural(one['kind'])}"
        found[f"{place}/{one['metadata']['name']}"] = one
    return found


def _plural(kind: str) -> str:
    """The kind's name in addresses."""
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"


def _root(api: str) -> str:
    return f"/api/{api}" if "/" not in api else f"/apis/{api}"
