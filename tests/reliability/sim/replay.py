"""Every topic, replayed into fresh databases: what a fold of the log alone comes to.

The records are the world's own; the databases are new; each runner takes
them partition by partition, in another order than any runner of the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.alerting.domain.alerts import Alert
from services.alerting.views import ALERTS, MATTERS, TRIGGERS
from services.alerting.views import RUNS as ALERT_RUNS
from services.clinical.views import ADVERSE, LOTS, PATIENTS
from services.clinical.views import DISPENSES as SITE_DISPENSES
from services.exchange.site.seen import SEEN_DATASETS, SEEN_STUDIES
from services.exchange.views import ROWS
from services.exchange.views import RUNS as STUDY_RUNS
from services.kit.bus.protocol import Partition, Record
from services.kit.contracts import contract
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.store.kinds import Kind
from services.loops.views import RUNS as LOOP_RUNS
from services.production.views import (
    CALIBRATIONS,
    CAPA_ROWS,
    DECISION_ROWS,
    DEVIATION_ROWS,
    EVIDENCE,
    LINE_ROWS,
    PARAMETERS,
    PRODUCTS,
    RELEASES,
    RESULT_ROWS,
    RUNS,
    TRANSFER_ROWS,
    WATCHES,
)
from services.rnd.views import FINDING_ROWS, FINDINGS, INSIGHTS, OUTCOMES, PLANT_KEYS, RECORDS, VERSIONS
from services.traceability.views import DISPENSES, DOSSIER_RECORDS, NODES, REGISTRY, SUSPECTS
from tests.reliability.sim.clockwork import Time
from tests.reliability.sim.database import Database
from tests.reliability.sim.log import Log, SimBus
from tests.reliability.sim.process import SITES, SPECS, STUDY_SITES, connect_outside, metrics_of, site_of
from tests.reliability.sim.stores import SyncStore
from tests.reliability.sim.world import World

_CLINICAL: tuple[Kind[Any], ...] = (PATIENTS, SITE_DISPENSES, LOTS, ADVERSE)
#: The states that are folds of topics alone. The others change by commands too.
FOLDS: Mapping[str, tuple[Kind[Any], ...]] = {
    "production": (
        *(WATCHES, PRODUCTS, PARAMETERS, EVIDENCE, RUNS, DEVIATION_ROWS, CAPA_ROWS, RESULT_ROWS),
        DECISION_ROWS,
        *(RELEASES, CALIBRATIONS, TRANSFER_ROWS, LINE_ROWS),
    ),
    "traceability": (NODES, DISPENSES, REGISTRY, SUSPECTS, *DOSSIER_RECORDS),
    "alerting": (ALERTS, TRIGGERS, ALERT_RUNS, MATTERS),
    "rnd": (INSIGHTS, RECORDS, FINDINGS, FINDING_ROWS, OUTCOMES, PLANT_KEYS, VERSIONS),
    "loops": (LOOP_RUNS,),
    **{f"clinical.{site}": _CLINICAL for site in SITES},
    "exchange": (STUDY_RUNS, ROWS),
    "evaluator": (SEEN_STUDIES, SEEN_DATASETS),
    **{f"agent.{site}": (SEEN_STUDIES, SEEN_DATASETS) for site in STUDY_SITES},
}
_NO_RUN = 3


class _Calm:
    def between(self) -> None:
        pass

    def alive(self) -> None:
        pass

    def strikes(self, fault: str) -> bool:
        return False


class Replay:
    """One service over a fresh database."""

    def __init__(self, world: World, name: str) -> None:
        spec, calm = SPECS[name](), _Calm()
        self.name = name
        self.database = Database(name, Time())
        self._log = world.log
        connect_outside(spec, site_of(name), world.time)
        around = Surroundings(
            spec.name,
            site_of(name),
            contract(),
            SimBus(Log(Time(), world.rng), "replay", calm),
            SyncStore(self.database, calm),
            metrics_of(spec.name),
            lambda: None,
        )
        self._runners = [BatchRunner(reactor, around) for reactor in spec.reactors]
        self._ends: dict[tuple[str, Partition], int] = {}

    def take_all(self) -> None:
        """Every record once, behind those that were taken before; each runner in one batch."""
        for runner in self._runners:
            partitions = [p for topic in runner.topics for p in self._log.partitions_of(topic)]
            records = [record for p in partitions for record in self._behind(runner, p)]
            if records:
                runner.process(records)
            while runner.look_aside():
                pass

    def _behind(self, runner: BatchRunner, partition: Partition) -> list[Record]:
        at = self._ends.get((runner.name, partition), 0)
        records = self._log.records[partition]
        self._ends[(runner.name, partition)] = at + len(records)
        return [record._replace(offset=at + n) for n, record in enumerate(records)]


def folded(database: Database, name: str) -> dict[str, Any]:
    """The folds of a service, without what does not follow from the log."""
    return {
        kind.name: {
            id: shown for id, state in sorted(database.states(kind).items()) if (shown := _shown(state))
        }
        for kind in FOLDS[name]
    }


def _shown(state: Any) -> Any:
    """A state without what commands, clocks and the order of facts put into it."""
    fields = {name: getattr(state, name) for name in type(state).__dataclass_fields__}
    if isinstance(state, Alert) and state.kind == _NO_RUN:
        return None  # raised by a step's command
    for name in (*_NOT_FOLDED, *(_ESCALATED if isinstance(state, Alert) else ())):
        fields.pop(name, None)
    if "followers" in fields:
        fields["followers"] = sorted(fields["followers"])
    return fields


#: Fields of an alert that a step changes by command.
_ESCALATED = ("level", "asked", "next_escalation", "escalations")
#: Fields that do not follow from the log alone:
_NOT_FOLDED = (
    "watches",  # of a node: a walk sets them by command
    "unplanned",  # of a patient: runs without a plan for them, at the time
    "reported",  # of a dispense at a site: whether the site had to tell the trace
    "again",  # and how often since
)
