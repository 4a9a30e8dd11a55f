"""`bench`: the benchmarks of the checkout. They need its folder, for they start services of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from services.cli.checkout import checkout
from services.cli.nouns import BENCH
from services.cli.session import Failure, Session
from services.cli.tables import table

_FOLDER = Path("tests") / "bench"
_WHY = "the benchmarks are not installed, they stand in the checkout (tests/bench)"


def _known(root: Path) -> dict[str, Path]:
    found = sorted((root / _FOLDER).glob("bench_*.py"))
    return {file.stem.removeprefix("bench_"): file for file in found}


@BENCH.verb("list")
@click.pass_obj
def list_benches(session: Session) -> None:
    """List the benchmarks that there are."""
    root = checkout(_FOLDER, _WHY)
    found = {name: str(file.relative_to(root)) for name, file in _known(root).items()}
    rows = [[name, file] for name, file in found.items()]
    session.show({"benchmarks": found}, lambda out: out.print(table("Benchmarks", ["name", "file"], rows)))


@BENCH.verb("run", "", "trace twin")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_context
def run_benches(context: click.Context, names: tuple[str, ...]) -> None:
    """Run the benchmarks NAME, or all, and write docs/benchmarks.md; needs an idle machine and minutes."""
    root = checkout(_FOLDER, _WHY)
    known = _known(root)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Failure(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    files = [str(known[name].relative_to(root)) for name in names]
    done = subprocess.run([sys.executable, "-m", "tests.bench", *files], cwd=root, check=False)
    context.exit(1 if done.returncode else 0)
