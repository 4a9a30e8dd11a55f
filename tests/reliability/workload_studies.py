"""The study of a case: an analyst asks, the owners agree, three sites answer, an evaluator values it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.exchange.views import EVALUATORS
from services.kit.ids import study_case
from tests.reliability.specs import database_of
from tests.reliability.world import NOON, until
from tests.unit.exchange.hospitals import PRODUCT, SITES, request

if TYPE_CHECKING:
    from tests.reliability.workload import Caller

_SECONDS = 150.0


def furnish_studies(caller: Caller) -> None:
    """What stands before the first study: its product, and who answers and values studies."""
    asked = rnd.RegisterProductRequest(
        request_id="product of studies", product=PRODUCT, name="tablet", indication="fever"
    )
    caller.do(caller.rnd.RegisterProduct, asked, [("rnd", "product", PRODUCT)])
    until("every agent is connected", lambda: _connected(caller) >= set(SITES), _SECONDS)
    # No call shows it before a study names it.
    evaluators = caller.world.database[database_of("exchange")][EVALUATORS.name]
    until("the evaluator is registered", lambda: evaluators.count_documents({}), _SECONDS)


def _connected(caller: Caller) -> set[str]:
    answer = caller.ask(caller.exchange.ListDatasets, exchange.ListDatasetsRequest())
    return {one.registered.site for one in answer.datasets if one.connected}


@dataclass(frozen=True)
class Study:
    """A study that is answered while everything else goes on; every owner agrees to its valuation. So many
    `seconds` it waits for what comes next."""

    study: str
    seconds: float = _SECONDS

    def ask(self, caller: Caller) -> None:
        """Requested and approved; the jobs are the platform's affair."""
        asked = request(self.study, NOON)
        asked.valued = True
        caller.do(caller.exchange.RequestStudy, asked, [("exchange", "study", self.study)], "eve")
        # What comes after it names the run.
        until(f"the exchange knows the run of {self.study}", lambda: self._shown(caller).run, self.seconds)
        for site in SITES:
            approve = exchange.ApproveStudyRequest(
                request_id=f"approve {self.study} {site}",
                study=self.study,
                site=site,
                meaning="You may ask us.",
                valuation=True,
            )
            caller.do(caller.exchange.ApproveStudy, approve, actor=f"owner of {site}")

    def wait(self, caller: Caller) -> None:
        """Until it is answered, its contributions are metered, and its loop is closed."""
        until(f"{self.study} is answered and metered", lambda: self._is_metered(caller), self.seconds)
        until(f"the loop of {self.study} closes", lambda: self._is_closed(caller), self.seconds)

    def _shown(self, caller: Caller) -> exchange.Study:
        answer = caller.ask(caller.exchange.GetStudy, exchange.GetStudyRequest(study=self.study))
        found: exchange.Study = answer.study
        return found

    def _is_metered(self, caller: Caller) -> bool:
        shown = self._shown(caller)
        return shown.state == exchange.STUDY_STATE_ANSWERED and len(shown.contributions) >= len(SITES)

    def _is_closed(self, caller: Caller) -> bool:
        asked = loops.ListRunsRequest(case=study_case(self.study))
        runs = caller.ask(caller.loops.ListRuns, asked).runs
        return bool(runs) and all(run.state == loops.RUN_STATE_CLOSED for run in runs)
