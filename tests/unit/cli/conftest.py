"""A bench with fake services, and one whose services answer as after a perfect run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.clock import wall_now
from services.kit.rpc.status import timestamp
from tests.unit.cli import support
from tests.unit.cli.support import ROOT, SITE, Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    # Who follows a stream ends it when it breaks off.
    monkeypatch.setattr("services.cli.follow._pause", ctrl_c)
    with support.bench(tmp_path / "state") as made:
        yield made


@pytest.fixture
def good(bench: Bench) -> Bench:
    """Two patients, three dispenses, all found; the run is closed."""
    bench.write_truth([[SITE, "P-1", "a"], [SITE, "P-1", "b"], [SITE, "P-2", "c"]])
    found = [support.exposure("P-1", "a"), support.exposure("P-1", "b"), support.exposure("P-2", "c")]
    lot = production.Lot(lot=ROOT, completed=timestamp(wall_now()))
    bench.fake.answers = {
        "ListDeviations": lambda request: production.ListDeviationsResponse(deviations=[support.deviation()]),
        "ListRuns": lambda request: loops.ListRunsResponse(runs=[support.run()]),
        "ListExposures": lambda request: clinical.ListExposuresResponse(exposures=found, total=len(found)),
        "ListPlans": lambda request: clinical.ListPlansResponse(),
        "GetEvidence": lambda request: clinical.GetEvidenceResponse(),
        "GetLot": lambda request: production.GetLotResponse(lot=lot),
    }
    return bench
