"""`bench`: the benchmarks of the checkout. They need its folder, for they start services of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from services.cli.nouns import BENCH
from services.cli.session import Failure, Session
from services.cli.tables import table

_FOLDER = Path("tests") / "bench"


def _checkout() -> Path:
    """The folder of the checkout; Failure where there is none here or above."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / _FOLDER / "__main__.py").is_file():
            return folder
    raise Failure(
        "the benchmarks are not installed, they stand in the checkout (tests/bench): go into its folder, "
        "and give the command again"
    )


def _known(checkout: Path) -> dict[str, Path]:
    found = sorted((checkout / _FOLDER).glob("bench_*.py"))
    return {file.stem.removeprefix("bench_"): file for file in found}


@BENCH.verb("list")
@click.pass_obj
def list_benches(session: Session) -> None:
    """List the benchmarks that there are."""
    checkout = _checkout()
    found = {name: str(file.relative_to(checkout)) for name, file in _known(checkout).items()}
    rows = [[name, file] for name, file in found.items()]
    session.show({"benchmarks": found}, lambda out: out.print(table("Benchmarks", ["name", "file"], rows)))


@BENCH.verb("run", "", "trace twin")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_context
def run_benches(context: click.Context, names: tuple[str, ...]) -> None:
    """Run the benchmarks NAME, or all, and write docs/benchmarks.md; needs an idle machine and minutes."""
    checkout = _checkout()
    known = _known(checkout)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Failure(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    files = [str(known[name].relative_to(checkout)) for name in names]
    done = subprocess.run([sys.executable, "-m", "tests.bench", *files], cwd=checkout, check=False)
    context.exit(1 if done.returncode else 0)
