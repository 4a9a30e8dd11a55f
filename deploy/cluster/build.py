"""Build the parts of the control plane from their projects' Go modules, once per content.

etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok (which
plays the kubelets) come out as one program with five names. A cold build takes
minutes and gigabytes of compiler cache; its result is kept by the hash of all
that it is made from, and every later start uses it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.cluster import cache

SOURCES = Path(__file__).with_name("control_plane")
MODULE = "pharmaloop/deploy/cluster/control_plane"
KWOK = "v0.8.0"
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
PROGRAM = "control-plane"
STAGES = "stages"
#: The stage files of kwok that we use, below kustomize/stage of its module.
STAGE_FOLDERS = ("node/fast", "node/heartbeat-with-lease", "pod/fast", "volume/fast")


class BuildError(RuntimeError):
    """The control plane cannot be built here; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Version:
    """One Kubernetes that charts are tried on."""

    name: str
    kubernetes: str
    #: kwok's dependencies fit beside the newest Kubernetes only; older ones borrow its kwok.
    has_kwok: bool

    @property
    def folder(self) -> Path:
        """Where its go.mod and go.sum are."""
        return SOURCES / f"v{self.name}"

    def sources(self) -> list[Path]:
        """The Go files that its program is made from."""
        return [SOURCES / "main.go", *([SOURCES / "kwok.go"] if self.has_kwok else [])]


VERSIONS = {
    version.name: version
    for version in (Version("1.37", "v1.37.2", has_kwok=True), Version("1.34", "v1.34.4", has_kwok=False))
}
NEWEST = "1.37"


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the parts of one version are, and kwok's own stage files."""

    paths: dict[str, Path]
    stages: Path

    def __getitem__(self, part: str) -> Path:
        return self.paths[part]


def version_of(name: str) -> Version:
    """The version of that name ("1.37"); raises BuildError with the ones that there are."""
    if name not in VERSIONS:
        raise BuildError(f"Kubernetes {name} is not one that is tried here: choose {' or '.join(VERSIONS)}")
    return VERSIONS[name]


def programs(version: Version) -> Programs:
    """The parts of that version, built now where they have not been."""
    newest = _built(VERSIONS[NEWEST])
    own = newest if version.name == NEWEST else _built(version)
    return Programs(
        {part: (own if (own / part).exists() else newest) / part for part in PARTS}, newest / STAGES
    )


def is_built(version: Version) -> bool:
    """Whether a start would find everything in the cache."""
    return all((cache.root() / name_of(needed)).is_dir() for needed in {version, VERSIONS[NEWEST]})


def name_of(version: Version) -> str:
    """The name of its folder in the cache."""
    files = [*version.sources(), version.folder / "go.mod", version.folder / "go.sum"]
    facts = (go("version", cwd=SOURCES), _linker_flags(version), *STAGE_FOLDERS)
    return f"kubernetes-{version.name}-{cache.key(files, *facts)}"


def _built(version: Version) -> Path:
    return cache.made(name_of(version), lambda folder: _build(version, folder))


def _build(version: Version, folder: Path) -> None:
    print(
        f"cluster: building Kubernetes {version.kubernetes} from its Go modules, once on this machine; "
        "this takes minutes ...",
        file=sys.stderr,
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        module = lay_out(version, Path(scratch))
        go(
            "build",
            "-trimpath",
            "-o",
            str(folder / PROGRAM),
            "-ldflags",
            _linker_flags(version),
            ".",
            cwd=module,
        )
        if version.has_kwok:
            kwok = go("list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok", cwd=module).strip()
            _copy_stages(Path(kwok) / "kustomize" / "stage", folder / STAGES)
    for part in PARTS if version.has_kwok else PARTS[:-1]:
        (folder / part).symlink_to(PROGRAM)


def lay_out(version: Version, scratch: Path) -> Path:
    """Put the Go files beside the version's own go.mod and go.sum, as Go wants a module; returns where."""
    for file in (*version.sources(), version.folder / "go.mod", version.folder / "go.sum"):
        shutil.copy(file, scratch)
    return scratch


def _linker_flags(version: Version) -> str:
    # Without a version the server calls itself v0.0.0, and a chart's kubeVersion is compared with that.
    package = "k8s.io/component-base/version"
    major, minor = version.name.split(".")
    told = {
        f"{package}.gitVersion": version.kubernetes,
        f"{package}.gitMajor": major,
        f"{package}.gitMinor": minor,
        "sigs.k8s.io/kwok/pkg/consts.Version": KWOK,
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in told.items())])


def _copy_stages(source: Path, target: Path) -> None:
    target.mkdir()
    for folder in STAGE_FOLDERS:
        for file in sorted((source / folder).glob("*.yaml")):
            if file.name != "kustomization.yaml":
                (target / file.name).write_bytes(file.read_bytes())


def go(*arguments: str, cwd: Path) -> str:
    """What go prints; raises BuildError with its last words when it fails."""
    program = shutil.which("go")
    if program is None:
        raise BuildError(
            "the control plane is built with Go, and there is no 'go' on PATH: install Go 1.26 or newer"
        )
    environment = {"GOGC": "400", **os.environ, "GOWORK": "off", "CGO_ENABLED": "0"}
    environment["GOFLAGS"] = "-buildvcs=false"
    done = subprocess.run(
        [program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"go {arguments[0]} failed:\n{done.stderr[-3000:]}")
    return done.stdout
