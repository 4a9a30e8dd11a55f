"""The fault of the drill `lag` on a real MongoDB: a transaction holds a runner's rows until it is undone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from deploy.drill import faults
from deploy.drill.faults import Locked
from deploy.local.plan import Plan
from tests.unit.deploy.drill.fakes import FakeGround

TOPIC = "pharmaloop.traceability.dispense.v1"
OURS, OTHER = f"traceability.fold|1|{TOPIC}|0", f"traceability.dossier|1|{TOPIC}|0"


def test_a_runners_rows_are_held_until_the_fault_is_undone(
    mongo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_send_again", lambda bootstrap, topic: 7)
    ground = FakeGround(tmp_path)
    ground.plan = cast(Plan, SimpleNamespace(mongodb_uri=mongo, bootstrap=""))
    fault = Locked("drilled", "traceability.fold", TOPIC)
    with MongoClient[dict[str, Any]](mongo) as client:
        rows = client["pharmaloop_drilled"]["_mark"]
        rows.insert_many([{"_id": OURS, "next": 1}, {"_id": OTHER, "next": 1}])

        def go_on(row: str) -> None:
            with client.start_session() as session, session.start_transaction():
                rows.update_one({"_id": row}, {"$inc": {"next": 1}}, session=session)

        try:
            assert fault.plant(ground).startswith(
                "a transaction holds 1 rows of traceability.fold; 7 records"
            )
            with pytest.raises(OperationFailure, match="conflict"):
                go_on(OURS)
            go_on(OTHER)
            assert fault.undo(ground).endswith("ended: 1")
            go_on(OURS)
            assert fault.undo(ground).endswith("ended: 0")
            assert rows.find_one({"_id": OURS}) == {"_id": OURS, "next": 2}, "the fault wrote nothing"
        finally:
            fault.undo(ground)
            client.drop_database("pharmaloop_drilled")
