"""Where the project's checkout is, for what stands there alone: benchmarks and drills."""

from __future__ import annotations

from pathlib import Path

from services.cli.session import Failure


def checkout(folder: Path, why: str) -> Path:
    """The checkout that has the program `folder`, here or above.

    Failure where there is none: `why` says what is not installed, and that it stands in a checkout.
    """
    here = Path.cwd().resolve()
    for root in (here, *here.parents):
        if (root / folder / "__main__.py").is_file():
            return root
    raise Failure(f"{why}: go into its folder, and give the command again")
