"""Generate the Python code of the contract: `proto/pharmaloop/**` -> `proto/gen/pharmaloop/**`.

The old code is replaced only by a whole new generation, so that a mistake in a
.proto file never takes away what worked. Standard library only, like the
set-up that calls it; the compiler itself runs in the project's environment.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.local.stamps import ROOT, Stamp, digest

PROTO = ROOT / "proto"
GENERATED = PROTO / "gen"
VENV_BIN = ROOT / ".venv" / "bin"
# What the code also depends on: the compilers' versions.
LOCK = ROOT / "requirements" / "all.txt"


def sources() -> list[Path]:
    return sorted((PROTO / "pharmaloop").rglob("*.proto"))


def stamp() -> Stamp:
    return Stamp(
        "proto",
        digest([*sources(), PROTO / "topics.yaml", LOCK, Path(__file__)]),
        GENERATED / "pharmaloop" / "__init__.py",
    )


def generate() -> int:
    """Compile every contract, answer how many; CalledProcessError when one does not compile."""
    names = [str(source.relative_to(PROTO)) for source in sources()]
    with tempfile.TemporaryDirectory(dir=PROTO, prefix=".gen-") as folder:
        new = Path(folder) / "gen"
        new.mkdir()
        _compile(names, new)
        _make_packages(new / "pharmaloop")
        shutil.rmtree(GENERATED, ignore_errors=True)
        new.rename(GENERATED)
    return len(names)


def _compile(names: list[str], out: Path) -> None:
    outputs = [f"--{kind}={out}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    outputs.append(f"--mypy_grpc_out=quiet:{out}")
    plugin = f"--plugin=protoc-gen-mypy_grpc={VENV_BIN / 'protoc-gen-mypy_grpc'}"
    compiler = [str(VENV_BIN / "python"), "-m", "grpc_tools.protoc"]
    subprocess.run([*compiler, f"-I{PROTO}", plugin, *outputs, *names], cwd=ROOT, check=True)


def _make_packages(top: Path) -> None:
    top.mkdir(exist_ok=True)
    for folder in [top, *(path for path in top.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()
    (top / "py.typed").touch()
    shutil.copy(PROTO / "topics.yaml", top / "topics.yaml")


def main() -> None:
    current = stamp()
    if current.is_current():
        return
    try:
        count = generate()
    except subprocess.CalledProcessError:
        sys.exit("proto: the contract does not compile (see above); proto/gen is as it was")
    current.write()
    print(f"proto: {count} files compiled into proto/gen")


if __name__ == "__main__":
    main()
