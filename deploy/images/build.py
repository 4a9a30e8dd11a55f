"""Build images on a machine without a container engine, and without a registry: `make images`.

Buildah builds from deploy/images/Dockerfile as it stands, in a chroot. What a
registry and an index would give is made first, once, under `.state/images`:
the base (Debian 12 with its Python, by mmdebstrap) and the wheels of the locked
lists. It needs root, and Debian's packages buildah and mmdebstrap.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.images.catalogue import IMAGES, MOST_MEGABYTES, SCIENTIFIC, USER, Image
from deploy.images.sbom import FILE

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".state" / "images"
BASE = "localhost/pharmaloop-base"
PROGRAMS = ("buildah", "mmdebstrap")
#: Without a container engine: plain folders as storage, a chroot to run in.
ENVIRONMENT = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
#: What a service never reads.
_LEFT_OUT = ("doc/*", "man/*", "locale/*", "info/*")
#: What a service needs of Debian. The first, with the hook, keeps out a converter that needs all of Perl.
_PACKAGES = ("usr-is-merged", "python3", "libstdc++6", "ca-certificates")
_MERGED = "/usr/share/mmdebstrap/hooks/merged-usr"
_WHEELS = "/wheels"


class BuildError(Exception):
    """An image cannot be built here; the message names cause and remedy."""


@dataclass(frozen=True)
class Built:
    """An image that was built: its name in the storage, the size of its files in bytes, broken promises."""

    reference: str
    size: int
    wrong: tuple[str, ...]


def check_machine() -> None:
    """BuildError with everything that is missing."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise BuildError(
            f"{' and '.join(missing)} missing: apt-get install --no-install-recommends {' '.join(PROGRAMS)}"
        )
    if os.geteuid() != 0:
        raise BuildError(
            "building in a chroot needs root: run it as root, or build with your container engine"
        )
    if not (ROOT / "proto" / "gen" / "pharmaloop").exists():
        raise BuildError("proto/gen is missing: run 'make proto'")


def run(*command: str, shown: bool = False) -> str:
    """Run a program; answers its output. BuildError with its last lines when it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise BuildError(f"'{' '.join(command[:3])} ...' failed:\n{last}")
    return done.stdout


def make_base() -> str:
    """The base image, made once: Debian's essential packages, Python, certificates of authorities."""
    if BASE in run("buildah", "images", "--format", "{{.Name}}").split():
        return BASE
    tar = WORK / "base.tar"
    if not tar.exists():
        draft = tar.with_suffix(".new.tar")
        excludes = [f"--dpkgopt=path-exclude=/usr/share/{part}" for part in _LEFT_OUT]
        run(
            "mmdebstrap", "--variant=essential", f"--hook-dir={_MERGED}", f"--include={','.join(_PACKAGES)}",
            *excludes, "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            "bookworm", str(draft),
        )  # fmt: skip
        draft.rename(tar)
    container = run("buildah", "from", "scratch").strip()
    run("buildah", "add", "--quiet", container, str(tar), "/")
    run("buildah", "commit", "--quiet", "--rm", container, BASE)
    return BASE


def fetch_wheels(image: Image) -> Path:
    """The wheels of an image's lists, and an unpacked pip beside them; answers their folder."""
    wheels = WORK / "wheels"
    lists = [f"requirements/{name}" for name in image.lists]
    lists += ["deploy/images/build.txt", *(["requirements/data.txt"] if image.data else [])]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--quiet",
        "--dest",
        str(wheels),
    ]
    checked = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "--python-version", "3.11"]
    for name in lists:
        fetched = wheels / f".{hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}"
        if not fetched.exists():
            run(*pip, *checked, "-r", name)
            fetched.touch()
    if not (wheels / "pip").exists():
        with zipfile.ZipFile(next(wheels.glob("pip-*.whl"))) as file:
            file.extractall(wheels)
    return wheels


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def build(image: Image) -> Built:
    """Build one image into buildah's storage."""
    base, wheels = make_base(), fetch_wheels(image)
    reference = f"localhost/{image.repository}:{version()}"
    arguments = {
        "BASE_IMAGE": base,
        "IMAGE": image.name,
        "VERSION": version(),
        "REVISION": revision(),
        "CREATED": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "PIP_HOME": _WHEELS,
        "PIP_OPTIONS": f"--no-index --find-links {_WHEELS}",
    }
    told = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    run(
        "buildah", "build", "--quiet", "--pull-never", "--volume", f"{wheels}:{_WHEELS}:ro",
        "--ignorefile", "deploy/images/Dockerfile.dockerignore", "--file", "deploy/images/Dockerfile",
        "--tag", reference, *told, ".",
    )  # fmt: skip
    with opened(reference) as folder:
        return Built(reference, size_of(folder), tuple(complaints(reference, folder)))


@contextmanager
def opened(reference: str) -> Iterator[Path]:
    """The files of an image, as a folder that may be thrown away."""
    container = run("buildah", "from", "--pull-never", reference).strip()
    try:
        yield Path(run("buildah", "mount", container).strip())
    finally:
        run("buildah", "rm", container)


def size_of(folder: Path) -> int:
    """Bytes in regular files; what has several names counts once."""
    found = (os.lstat(Path(at) / name) for at, _, names in os.walk(folder) for name in names)
    return sum({s.st_ino: s.st_size for s in found if stat.S_ISREG(s.st_mode)}.values())


def config_of(reference: str) -> dict[str, Any]:
    """What an image says of itself: user, start, environment, labels."""
    config: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", reference))["OCIv1"]
    return dict(config["config"])


def complaints(reference: str, folder: Path) -> Iterator[str]:
    """What of its promises an image does not keep."""
    environment = folder / "opt" / "pharmaloop"
    parts = json.loads((environment / FILE).read_text())["components"]
    size = size_of(folder)
    if not {part["name"] for part in parts}.intersection(SCIENTIFIC) and size > MOST_MEGABYTES * 1_000_000:
        yield f"it has {size / 1e6:.0f} MB, promised are {MOST_MEGABYTES}"
    if (user := config_of(reference).get("User")) != USER:
        yield f"it runs as {user or 'root'}"
    if any((environment / "bin").glob("pip*")):
        yield "it has an installer of packages"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", nargs="*", default=["alerting"], help="; ".join(IMAGES))
    names = parser.parse_args().images
    if unknown := [name for name in names if name not in IMAGES]:
        sys.exit(f"images: there is no image {unknown[0]!r}; choose of {', '.join(IMAGES)}")
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        check_machine()
        for name in names:
            start = time.monotonic()
            built = build(IMAGES[name])
            took = time.monotonic() - start
            print(f"{built.reference}: {built.size / 1e6:.0f} MB, built in {took:.0f} s", flush=True)
            if built.wrong:
                raise BuildError(f"{built.reference}: {'; '.join(built.wrong)}")
    except BuildError as error:
        sys.exit(f"images: {error}")


if __name__ == "__main__":
    main()
