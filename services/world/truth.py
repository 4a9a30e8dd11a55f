"""What was planted, written down before anything is sent.

Only the composition root writes it and only `pharmaloop verify` and the tests
read it. No simulated person may: the modules in `actors` do not import this
one, and a test holds them to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.world.entities import DryerLot, World
from services.world.genealogy import by_lot, exposed, outputs

FILE = "truth.json"


def truth_of(world: World) -> dict[str, Any]:
    """Every faulty lot, and for every lot the dispenses that hold some of it."""
    made, given = outputs(world.materials), by_lot(world.dispenses)
    return {
        "seed": world.seed,
        "anchor": world.anchor.isoformat(),
        "site": world.site,
        "planted": [_planted(lot) for lot in world.dryer_lots if lot.fault],
        "live": [lot.lot for lot in world.dryer_lots if lot.live],
        "exposures": {
            material.lot: [
                [world.site, dispense.pseudonym, dispense.dispense]
                for dispense in exposed(material.lot, made, given)
            ]
            for material in world.materials
        },
    }


def write_truth(world: World, folder: Path) -> Path:
    """Put the truth beside the platform's state; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(truth_of(world), indent=1) + "\n")
    draft.replace(path)
    return path


def _planted(lot: DryerLot) -> dict[str, Any]:
    assert lot.fault
    onset = lot.started + (lot.completed - lot.started) * lot.fault.onset
    return {
        "lot": lot.lot,
        "product": lot.product,
        "equipment": lot.equipment,
        "copy_of_run": lot.run,
        "tag": lot.fault.tag,
        "kind": lot.fault.kind,
        "onset": lot.fault.onset,
        "onset_at": onset.isoformat(),
        "magnitude": lot.fault.magnitude,
    }
