"""Resolve the project's dependencies once and export every hash-pinned list from that one answer.

`requirements/all.txt` is the resolution; each `requirements/<extra>.txt` is a
subset of it, so that an image which installs one service runs the versions
that were tested together. Index addresses never enter a list: where packages
come from is a matter of the machine that installs them.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path("requirements")
COMMON = ["--generate-hashes", "--no-emit-index-url", "--no-header", "--python-version", "3.11", "--quiet"]


def uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        sys.exit("lock: uv is missing; run 'make setup', which installs it into .venv")
    return found


def compile_list(output: Path, *arguments: str) -> None:
    print(f"lock: {output}", flush=True)
    command = [uv(), "pip", "compile", *COMMON, *arguments, "--output-file", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest allowed versions, not the pinned ones"
    )
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = REQUIREMENTS / "all.txt"
    compile_list(everything, "pyproject.toml", "--all-extras", *upgrade)
    for extra in project["optional-dependencies"]:
        compile_list(
            REQUIREMENTS / f"{extra}.txt",
            "pyproject.toml",
            "--extra",
            extra,
            "--constraint",
            str(everything),
            "--upgrade",
        )
    compile_list(REQUIREMENTS / "data.txt", str(REQUIREMENTS / "data.in"), "--no-deps", *upgrade)
    # A tool with an environment of its own (deploy.charts.policy): its pins contradict the services'.
    compile_list(REQUIREMENTS / "checkov.txt", str(REQUIREMENTS / "checkov.in"), *upgrade)


if __name__ == "__main__":
    main()
