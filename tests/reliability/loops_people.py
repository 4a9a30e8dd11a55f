"""Research, a plant, three hospitals and an analyst on real engines: what they do in the two new loops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange_api
from pharmaloop.exchange.v1 import service_pb2_grpc as exchange_grpc
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.loops.v1 import service_pb2 as loops_api
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as production_api
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from pharmaloop.rnd.v1 import service_pb2 as rnd_api
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Partition, Record
from services.kit.clock import load_clock
from services.kit.contracts import contract
from services.kit.ids import product_key, transfer_case
from services.kit.settings import KafkaSettings
from tests.reliability import study_rules
from tests.reliability.asking import OPTIONS, Journal, answered, noted
from tests.reliability.sim import loop_invariants as rules
from tests.reliability.world import NOON, PART, SPEED, World, until
from tests.unit.exchange.hospitals import PRODUCT, ROWS, SITES, request
from tests.unit.production.transfer_story import VESSEL
from tests.unit.rnd.penicillin import limits, says

PLANT, LINE, FERMENTER = "plant-2", "line-a", "plant-2/fermenter-1"
BROTH = product_key("maker", "item", "BROTH")
_SECONDS = 90.0
_RULES = (rules.one_run, rules.ended_rightly, rules.told_once, rules.stages_sum)


def start(folder: Path, once: Mapping[str, Mapping[str, str]]) -> World:
    """A world of research, loops, a plant and the exchange with those that connect to it; `once` is in the
    environment of who is named until it first dies."""
    world = World(folder, folder / "keys", services=())
    world.start()
    world.parts |= {name: ("all",) for name in ("rnd", "loops", "production")}
    for name in ("rnd", "loops"):
        world.add(name, once=once.get(name))
    world.add("production", module=(PART, "plant"), once=once.get("production"))
    world.add_consortium()
    world.wait_serving()
    return world


class People:
    """Ask until there is an answer, each request under an id of its own; the journal has what was answered.

    A call waits for its answer for `seconds`; with `patience` (seconds) they ask again, and wait for what
    comes next.
    """

    def __init__(
        self,
        world: World,
        journal: Journal | None = None,
        *,
        seconds: float = 5.0,
        patience: float = _SECONDS,
    ) -> None:
        self.world = world
        self.journal = journal or Journal()
        self.seconds = seconds
        self.patience = patience
        self.line = {
            name: grpc.insecure_channel(world.address(name), options=OPTIONS)
            for name in ("rnd", "production", "loops", "exchange")
        }
        self.rnd = rnd_grpc.RndServiceStub(self.line["rnd"])
        self.production = production_grpc.ProductionServiceStub(self.line["production"])
        self.loops = loops_grpc.LoopsServiceStub(self.line["loops"])
        self.exchange = exchange_grpc.ExchangeServiceStub(self.line["exchange"])

    def close(self) -> None:
        for channel in self.line.values():
            channel.close()

    def ask(self, call: Any, asked: Message, name: str = "", actor: str = "world") -> Any:
        """The answer; a refusal is an error of the test. `name`: the request's id, where it has one."""
        if name:
            asked.request_id = name  # type: ignore[attr-defined]
        answer = answered(
            call, asked, self.journal, seconds=self.seconds, patience=self.patience, actor=actor
        )
        if name:
            self.journal.acknowledged.append(noted(asked, answer, actor=actor))
        return answer

    # -- before -----------------------------------------------------------------

    def furnish(self, products: Iterable[str] = (BROTH, PRODUCT)) -> None:
        """The plant and its line, and the products that research has."""
        equipment = production_api.RegisterEquipmentRequest(equipment=FERMENTER, plant=PLANT)
        equipment.tags.add(name="DO", unit="%")
        self.ask(self.production.RegisterEquipment, equipment, "fermenter")
        line = production_api.RegisterLineRequest(
            plant=PLANT,
            line=LINE,
            equipment=FERMENTER,
            products=[BROTH],
            detail=production.LineDetail(**VESSEL),
        )
        self.ask(self.production.RegisterLine, line, "line", "manager")
        for product in products:
            asked = rnd_api.RegisterProductRequest(product=product, name=product, indication="fever")
            self.ask(self.rnd.RegisterProduct, asked, f"product {product}", "chemist")

    # -- a transfer ---------------------------------------------------------------

    def release(self, set: str) -> None:
        attributes = [sets.QualityAttribute(attribute="titre", limits=limits(2.2, 6.0, "g/L"))]
        attributes += [sets.QualityAttribute(attribute="impurity", limits=limits(None, 1.2, "%"))]
        content = says(product=BROTH, attributes=attributes, statement=f"For {set}.")
        draft = rnd_api.DraftParameterSetRequest(set=set, content=content)
        self.ask(self.rnd.DraftParameterSet, draft, f"draft {set}", "ada")
        review = rnd_api.ReviewParameterSetRequest(set=set, version=1, meaning="I have read it.")
        self.ask(self.rnd.ReviewParameterSet, review, f"review {set}", "ben")
        release = rnd_api.ReleaseParameterSetRequest(set=set, version=1, plants=[PLANT], meaning="For use.")
        self.ask(self.rnd.ReleaseParameterSet, release, f"release {set}", "cy")

    def transfer(self, set: str) -> Any:
        """The transfer as it is shown; none yet."""
        shown = self.ask(self.production.ListTransfers, production_api.ListTransfersRequest(plant=PLANT))
        case = transfer_case(set, PLANT)
        return next((one for one in shown.transfers if one.transfer == case), None)

    def proposed(self, set: str) -> None:
        """Wait for the twin's advice."""
        until(
            f"{set} is proposed",
            lambda: (one := self.transfer(set)) and one.HasField("proposed"),
            self.patience,
        )

    def sign(self, set: str) -> None:
        """The advice is taken, proven, filed; a lot is made by it and tested."""
        self.proposed(set)
        case = transfer_case(set, PLANT)
        decide = production_api.DecideTransferRequest(
            transfer=case,
            proposal=self.transfer(set).proposed.proposal,
            accepted=True,
            reason="as proposed",
            meaning="I take responsibility",
        )
        self.ask(self.production.DecideTransfer, decide, f"decide {set}", "manager")
        proven = production_api.RecordRecipeValidationRequest(
            transfer=case, version=1, record="VR-1", statement="in range"
        )
        self.ask(self.production.RecordRecipeValidation, proven, f"prove {set}", "qa")
        filing = production_api.RecordRecipeFilingRequest(
            transfer=case,
            version=1,
            category=production.FILING_CATEGORY_NOT_REPORTED,
            statement="inside the space",
        )
        self.ask(self.production.RecordRecipeFiling, filing, f"file {set}", "ra")
        lot = f"{BROTH}/{set}"
        made = production_api.StartLotRequest(lot=lot, product=BROTH, equipment=FERMENTER, transfer=case)
        made.at.FromDatetime(NOON)
        self.ask(self.production.StartLot, made, f"start {lot}", "manager")
        results = [
            production.TestResultRecorded(lot=lot, test=test, value=value, unit=unit, record=test, source="l")
            for test, value, unit in (("titre", 4.0, "g/L"), ("impurity", 0.8, "%"))
        ]
        for result in results:
            result.at.at.FromDatetime(NOON)
        tested = production_api.RecordTestResultsRequest(results=results, all_or_nothing=True)
        self.ask(self.production.RecordTestResults, tested, f"results {lot}")

    # -- a study --------------------------------------------------------------------

    def study(
        self, name: str, owners: Iterable[str] = SITES, *, valued: bool = False, seconds: float = 0.0
    ) -> None:
        """Requested, and approved by these owners, who agree to its valuation where it is `valued`. Its time
        is over after so many seconds of the wall, of years where none are given."""
        shown = exchange_api.ListDatasetsRequest()

        def connected() -> bool:
            answer = self.ask(self.exchange.ListDatasets, shown)
            return {one.registered.site for one in answer.datasets if one.connected} >= set(SITES)

        until("every agent is connected", connected, self.patience)
        asked = request(name, NOON)
        asked.valued = valued
        if seconds:
            asked.expires.FromDatetime(
                load_clock(self.world.state).now() + timedelta(seconds=seconds * SPEED)
            )
        self.ask(self.exchange.RequestStudy, asked, f"request {name}", "eve")
        for site in owners:
            approve = exchange_api.ApproveStudyRequest(
                study=name, site=site, meaning="You may ask us.", valuation=valued
            )
            self.ask(self.exchange.ApproveStudy, approve, f"approve {name} {site}", f"owner of {site}")

    def metered(self, name: str) -> list[exchange_events.ContributionMetered]:
        """What the sites contributed, when that has been metered."""
        found: list[Any] = []

        def is_metered() -> bool:
            shown = self.ask(self.exchange.GetStudy, exchange_api.GetStudyRequest(study=name))
            found[:] = shown.study.contributions
            return len(found) >= len(SITES)

        until(f"the contributions to {name} are metered", is_metered, self.patience)
        return found

    # -- the end ----------------------------------------------------------------------

    def closed(self, case: str) -> loops.LoopClosed:
        """The end of the run of a case, when it has come."""
        found: list[Any] = []

        def is_closed() -> bool:
            found[:] = self.ask(self.loops.ListRuns, loops_api.ListRunsRequest(case=case)).runs
            return bool(found) and all(run.state == loops_api.RUN_STATE_CLOSED for run in found)

        until(f"the run of {case} closes", is_closed, self.patience)
        (run,) = found
        ended: loops.LoopClosed = run.closed
        return ended


class Told:
    """The topics of a world as the simulation's rules look at them: `log` is this."""

    def __init__(self, world: World) -> None:
        bus = KafkaBus(KafkaSettings(bootstrap_servers=world.bootstrap), "told")
        log = bus.log()
        topics = [topic.name for topic in contract().topics if "{site}" not in topic.name]
        ends = {place: end for place, end in log.ends(topics).items() if end}
        self.records: dict[Partition, list[Record]] = defaultdict(list)
        reader = bus.reader({place: 0 for place in ends})
        try:
            until("every record is read", lambda: self._take(reader, ends), 30, pause=0.0)
        finally:
            reader.close()

    def _take(self, reader: Any, ends: dict[Partition, int]) -> bool:
        for record in reader.take(1000, 0.2):
            self.records[Partition(record.topic, record.partition)].append(record)
        read = {place: records[-1].offset + 1 for place, records in self.records.items()}
        return all(read.get(place, 0) >= end for place, end in ends.items())

    @property
    def log(self) -> Told:
        return self

    def all(self) -> Iterable[Record]:
        return [record for place in sorted(self.records) for record in self.records[place]]

    def partitions_of(self, topic: str) -> list[Partition]:
        return sorted(place for place in self.records if place.topic == topic)


def twice_or_never(world: World) -> list[str]:
    """What the topics say that breaks a rule of the simulation: of runs and of studies, each effect once."""
    told: Any = Told(world)
    wrong = [said for rule in _RULES for said in rule(told)]
    return wrong + [said for rule in study_rules.rules(ROWS).values() for said in rule(rules.distinct(told))]
