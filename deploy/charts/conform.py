"""Judge the rendered variants by kubeconform.

kubeconform is built by Go into `.tools` on first use, of one version, whose sum is
compared. The definitions of Kubernetes are those of the package kubernetes-validate,
which judges the same resources as well; two programs that read them
differently are two opinions.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from deploy.local.stamps import ROOT, alone

MODULE, VERSION = "github.com/yannh/kubeconform", "v0.7.0"
SUM = "h1:ZFfniR8VChrWQxaxTUGnNrxw8RIDkjVBrjdhXSamwjw="
FOLDER = ROOT / ".tools" / "kubeconform"
#: The oldest that Chart.yaml allows, and the newest that is known.
VERSIONS = ("1.30.0", "1.37.0")
#: Of these kinds Kubernetes itself has no definition: the operators' own judge them in `make charts-e2e`,
#: and tests/charts/test_backbone.py and test_operators.py say what they must hold.
OPERATORS = {
    ("kafka.strimzi.io/v1", kind) for kind in ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")
} | {
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("cert-manager.io/v1", "Certificate"),
}


def program() -> Path:
    """kubeconform, built when it is missing; raises RuntimeError where its sum is another or Go cannot."""
    path = FOLDER / f"kubeconform-{VERSION}"
    with alone(FOLDER / "lock"):
        if not path.exists():
            _build(path)
    return path


def _build(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = ["go", "install", f"{MODULE}/cmd/kubeconform@{VERSION}"]
        _run(command, {**os.environ, "GOBIN": folder, "GOFLAGS": ""})
        made = Path(folder) / "kubeconform"
        told = _run(["go", "version", "-m", str(made)], dict(os.environ))
        if f"{MODULE}\t{VERSION}\t{SUM}" not in told:
            raise RuntimeError(f"{MODULE} {VERSION} is not the one that is pinned ({SUM}):\n{told[:500]}")
        made.rename(path)


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def schemas(version: str, folder: Path) -> str:
    """The definitions of a version, copied to a folder with its address in them; where kubeconform looks."""
    package = resources.files("kubernetes_validate")
    source = Path(str(package)) / "kubernetes-json-schema" / f"v{version}-local-strict"
    for file in source.glob("*.json"):
        text = file.read_text().replace('"/api/_definitions.json#', f'"file://{folder}/_definitions.json#')
        (folder / file.name).write_text(text)
    return f"{folder}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"


def complaints(rendered: Mapping[str, str], version: str) -> list[str]:
    """What a version of Kubernetes would not take of the variants, by their names."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as definitions:
        files = [Path(folder, f"{name}.yaml") for name in rendered]
        for file in files:
            file.write_text(rendered[file.stem])
        location = schemas(version, Path(definitions))
        kinds = ",".join(f"{version}/{kind}" for version, kind in sorted(OPERATORS))
        options = ["-strict", "-output", "json", "-verbose", "-skip", kinds, "-schema-location", location]
        done = subprocess.run([program(), *options, *files], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
        judged = [(Path(one["filename"]).stem, one) for one in report["resources"]]
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"kubeconform gave no report:\n{done.stderr[-2000:]}") from None
    if unseen := rendered.keys() - {name for name, one in judged if one["status"] == "statusValid"}:
        raise RuntimeError(f"kubeconform found nothing valid in {', '.join(sorted(unseen))}")
    return [
        f"{name}: {one['kind']} {one['name']}: {one['msg']}"
        for name, one in judged
        if one["status"] in ("statusInvalid", "statusError")
    ]
