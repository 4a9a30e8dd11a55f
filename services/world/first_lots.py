"""The first lots of transfers as they truly are, beside what the live twin says of them.

Which set-points a lot is made by is known when it is made, and not before: so this
is written down then, lot by lot, before any of it is sent. It stands beside the
truth of the world (which is written anew by every start), a line of JSON for each
lot and for each answer of the twin. `pharmaloop verify` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

FILE = "first-lots.jsonl"


class FirstLots:
    """`folder` is the world's own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._biomass: dict[str, dict[float, float]] = {}
        self._off: dict[str, dict[float, float]] = {}

    def ferment(
        self, lot: str, points: Mapping[str, float]
    ) -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
        """Make the lot: the hours of its readings, and what the sensors say by tag."""
        from services.world.true_plant import fermented  # noqa: PLC0415 -- the solver, for a few lots alone

        made = fermented(points, Random(f"readings/{lot}"))
        self._biomass[lot] = dict(zip(made.hours, made.biomass, strict=True))
        self._off[lot] = {}
        self._note({"lot": lot, "hours": made.hours, "biomass": made.biomass})
        return made.hours, made.readings

    def test(self, lot: str, points: Mapping[str, float]) -> Mapping[str, float]:
        """What the plant's laboratory finds: what the lot truly is."""
        from services.world.true_plant import results  # noqa: PLC0415

        return results(points, Random(f"true/{lot}"))

    def hear(self, lot: str, hour: float, biomass: float) -> str:
        """Note the biomass (g/L) that the twin tells of a lot after a reading; answers how far it is off."""
        true = self._biomass[lot]
        at = min(true, key=lambda known: abs(known - hour))
        self._note({"lot": lot, "hour": at, "told": biomass})
        self._off[lot][at] = abs(biomass / true[at] - 1)
        off = list(self._off[lot].values())
        return f"{100 * fmean(off):.1f} % (mean of {len(off)}; {100 * off[-1]:.1f} % after {at:.0f} h)"

    def _note(self, row: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as out:
            out.write(json.dumps(row) + "\n")
