"""What `verify` says of the live twin: how far its biomass is off from what the lots truly held."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.cli import judge_transfers
from services.cli.judge_transfers import FirstLot, Planted, Run, Seen
from services.cli.truth import developments, read_worlds

LOT = FirstLot("m/item/P/T001", (0.0, 100.0, 200.0), (1.0, 20.0, 40.0), {100.0: 20.4})
PLANTED = Planted("PS", "plant", 1, "misfit", "weak", (), (), (LOT,))


def seen(**twins: float) -> Seen:
    runs = [Run("PS", 1, "plant", "closed"), Run("misfit", 1, "weak", "refused")]
    return Seen(runs=runs, twins=twins)


def test_the_error_is_the_mean_of_what_was_told_and_of_what_the_platform_says_now() -> None:
    document, failures = judge_transfers.judge(PLANTED, seen(**{LOT.lot: 42.4}))
    assert not failures
    (lot,) = document["twin"]["lots"]
    assert (lot["lot"], lot["looks"]) == (LOT.lot, 2)
    assert lot["last_error"] == pytest.approx(0.06)
    assert document["twin"]["mean_error"] == lot["mean_error"] == pytest.approx(0.04)


def test_a_twin_that_is_too_far_off_in_the_mean_fails() -> None:
    document, failures = judge_transfers.judge(PLANTED, seen(**{LOT.lot: 36.0}))
    assert document["twin"]["mean_error"] == pytest.approx(0.06)
    assert failures == ["the live twin's biomass is off by 6.0 % in the mean, and 5 % is what it is held to"]


def test_a_lot_without_a_twin_fails_and_so_do_transfers_without_a_lot() -> None:
    document, failures = judge_transfers.judge(PLANTED, seen())
    assert failures == [f"the platform has no twin of the lot {LOT.lot}"]
    assert document["twin"]["mean_error"] is None
    nothing = Planted("PS", "plant", 1, "misfit", "weak", (), ())
    assert judge_transfers.judge(nothing, seen())[1] == ["no lot of a transfer was followed by a live twin"]


def test_first_lots_are_read_each_as_it_was_made_last(tmp_path: Path) -> None:
    truth = tmp_path / "world" / "truth"
    truth.mkdir(parents=True)
    misfit = {"set": "misfit", "plant": "weak", "rules": []}
    moved = {"set": "PS", "plant": "plant", "versions": 1, "misfit": misfit, "mistakes": []}
    told = {"treatment": {"product": "m/item/P", "transfers": moved, "studies": []}}
    (truth / "truth.json").write_text(json.dumps(told))
    (before,) = developments(read_worlds(tmp_path))
    assert before.transfers.first_lots == ()
    rows = [
        {"lot": LOT.lot, "hours": [0.0], "biomass": [9.0]},
        {"lot": LOT.lot, "hour": 0.0, "told": 8.0},
        {"lot": LOT.lot, "hours": LOT.hours, "biomass": LOT.biomass},
        {"lot": LOT.lot, "hour": 100.0, "told": 20.4},
    ]
    lines = [*map(json.dumps, rows), '{"lot": "cut sho']
    (tmp_path / "world" / "first-lots.jsonl").write_text("\n".join(lines))
    (after,) = developments(read_worlds(tmp_path))
    assert after.transfers.first_lots == (LOT,)
