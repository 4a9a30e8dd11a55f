"""Makes the bundle that partners download: `make partner-kit` -> dist/partner-kit-<version>.zip.

The same tree gives the same bytes: entries are sorted, their times and rights are fixed. With
`--docs` only the generated pages of docs/partners are brought up to date.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from deploy.local.stamps import ROOT
from deploy.partners import errors, limits, reference

DIST = ROOT / "dist"
#: Zip files know no time before this one.
_TIME = (1980, 1, 1, 0, 0, 0)
_EPOCH = "315532800"
#: What building the examples leaves behind.
_MADE = {"target", "gen", "build", "bin", "__pycache__"}
_STUBS = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "pharmaloop-stubs"
version = "{version}"
description = "Generated gRPC stubs of the PharmaLoop contract; no code of the services"
requires-python = ">=3.11"
license = "Apache-2.0"
dependencies = [{dependencies}]

[tool.setuptools.packages.find]
include = ["pharmaloop*"]

[tool.setuptools.package-data]
"*" = ["*.pyi", "py.typed"]
"""
_README = """\
# PharmaLoop partner kit {version}

| | |
|---|---|
| `docs/partners/README.md` | begin here: from this bundle to the first call in thirty minutes |
| `docs/partners/reference/` | every call, message and field |
| `proto/` | the contract, for code generators |
| `pharmaloop.binpb` | the contract compiled with its comments, for grpcurl and `buf curl` |
| `python/` | stubs for Python as a wheel |
| `examples/` | complete programs in Python, Go and Java |

The contract's digest (SHA-256 of `pharmaloop.binpb`): `{digest}`
"""


def version() -> str:
    """The platform's version, which the kit has too."""
    return str(_project()["version"])


def _project() -> dict[str, object]:
    project: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def build(target: Path) -> Path:
    """Write the kit and its checksum into the folder `target`; answers the zip file."""
    name = f"partner-kit-{version()}"
    with tempfile.TemporaryDirectory(prefix="partner-kit-") as scratch:
        tree = Path(scratch, name)
        tree.mkdir()
        _fill(tree)
        target.mkdir(parents=True, exist_ok=True)
        made = target / f"{name}.zip"
        _zip(tree, made)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    made.with_suffix(".zip.sha256").write_text(f"{digest}  {made.name}\n")
    return made


def _fill(tree: Path) -> None:
    compiled = reference.descriptor_set(tree / "pharmaloop.binpb")
    for source in sorted((ROOT / "proto").rglob("*.proto")):
        _copy(source, tree)
    _copy(ROOT / "proto" / "buf.yaml", tree)
    _copy(ROOT / "LICENSE", tree)
    for folder in ("docs/partners", "examples"):
        for source in sorted((ROOT / folder).rglob("*")):
            if source.is_file() and not _MADE.intersection(source.relative_to(ROOT).parts):
                _copy(source, tree)
    (tree / "python").mkdir()
    wheel(tree / "python")
    digest = hashlib.sha256(compiled).hexdigest()
    (tree / "README.md").write_text(_README.format(version=version(), digest=digest))


def _copy(source: Path, tree: Path) -> None:
    target = tree / source.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def wheel(target: Path) -> Path:
    """Build the wheel of stubs into the folder `target`, from the generated code as it is; answers it."""
    wanted: list[str] = [
        one
        for one in _project()["dependencies"]  # type: ignore[attr-defined]
        if one.startswith(("grpcio=", "protobuf"))
    ]
    # A partner chooses its own version; it must not be older than the generated code.
    needs = ", ".join(f'"{one.replace("==", ">=")}"' for one in wanted)
    with tempfile.TemporaryDirectory(prefix="partner-stubs-") as scratch:
        tree = Path(scratch)
        (tree / "pyproject.toml").write_text(_STUBS.format(version=version(), dependencies=needs))
        for source in sorted((ROOT / "proto" / "gen" / "pharmaloop").rglob("*")):
            if source.suffix in {".py", ".pyi", ".typed"}:
                copy = tree / source.relative_to(ROOT / "proto" / "gen")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
                copy.chmod(0o644)
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])",
                target,
            ],
            cwd=tree,
            env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
            check=True,
            capture_output=True,
        )
    (made,) = target.glob("pharmaloop_stubs-*.whl")
    return made


def _zip(tree: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for source in sorted(path for path in tree.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(source.relative_to(tree.parent)), _TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(entry, source.read_bytes())


def refresh_docs() -> None:
    """Bring the generated pages of docs/partners up to date."""
    reference.write(reference.PAGES, reference.make())
    page = errors.PAGE.read_text()
    errors.PAGE.write_text(errors.in_page(page, errors.table(errors.reasons())))
    limits.PAGE.write_text(limits.in_page(limits.PAGE.read_text()))


def main() -> None:
    refresh_docs()
    if "--docs" not in sys.argv[1:]:
        made = build(DIST)
        print(f"partner kit: {made.relative_to(ROOT)} ({made.stat().st_size // 1024} KiB), and its checksum")


if __name__ == "__main__":
    main()
