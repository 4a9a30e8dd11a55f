"""The loops service on real engines: whole runs of each loop from trigger to close."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.loops.v1 import service_pb2_grpc as api_grpc
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.app import App
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.ids import study_case, transfer_case
from services.kit.metrics import LOOP_RUNS
from services.kit.rpc.client import metadata
from services.kit.testing.service import running_service
from services.loops.handlers import CASE_TOPIC
from services.loops.main import SPEC

SITE = "hospital-a"


class Others:
    """Plays the other services: publishes their events of one case."""

    def __init__(self, app: App, lot: str) -> None:
        self._app = app
        self._lot = lot
        self._seq: dict[str, int] = {}
        self.run = ""

    async def say(self, service: str, message: Message) -> None:
        subject = f"{self._lot}/{service}"
        self._seq[subject] = self._seq.get(subject, 0) + 1
        topic, key = contract().route(message, SITE)
        event = Event(
            id=str(uuid.uuid4()),
            source=f"/svc/{service}/test",
            subject=subject,
            time=datetime.now(UTC),
            message=message,
            key=key,
            seq=self._seq[subject],
            case=self._lot,
            run=self.run,
        )
        await asyncio.wrap_future(self._app.producer.publish([to_record(event, topic)]))


async def _until_run(stub: api_grpc.LoopsServiceAsyncStub, lot: str, stage: str, state: int = 0) -> api.Run:
    async with asyncio.timeout(60):
        while True:
            answer = await stub.ListRuns(api.ListRunsRequest(lot=lot), timeout=5)
            for run in answer.runs:
                if run.stage == stage and state in (0, run.state):
                    return run
            await asyncio.sleep(0.02)


async def test_a_safety_run_goes_through_every_stage(backbone: str, mongo: str, tmp_path: Path) -> None:
    lot, digest = f"maker/item/G/{uuid.uuid4().hex}", b"d" * 32
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        stub, others = api_grpc.LoopsServiceStub(channel), Others(app, lot)
        await others.say(
            "production",
            production.DeviationConfirmed(lot=lot, deviation="d1", product="maker/item/G", tag="T"),
        )
        run = await _until_run(stub, lot, "trace")
        others.run = run.run
        announced = traceability.ExposureAnnounced(run=run.run, version=1, root=lot, lots=[lot])
        announced.sites[SITE].CopyFrom(traceability.SiteExposure(epoch=1, n=2, digest=digest))
        await others.say("traceability", announced)
        await _until_run(stub, lot, "receive")
        received = clinical.ExposureReceived(run=run.run, site=SITE, epoch=1, n=2, digest=digest, patients=2)
        await others.say("clinical", received)
        await _until_run(stub, lot, "hold")
        await others.say("production", production.LotImplicationAnswered(lot=lot, run=run.run))
        await _until_run(stub, lot, "plan")
        await others.say(
            "clinical", clinical.PlansOpened(run=run.run, site=SITE, patients=2, plans=1, without_consent=1)
        )
        await _until_run(stub, lot, "seal")
        await others.say(
            "traceability", traceability.ExposureSealed(run=run.run, version=1, lots=[lot], members=2)
        )
        await _until_run(stub, lot, "evaluate")
        await others.say("hazard", production.HazardEvaluated(run=run.run, lot=lot))
        await _until_run(stub, lot, "notify")
        await others.say(
            "clinical",
            clinical.NoticesSummarised(run=run.run, site=SITE, patients=2, notified=1, unreachable=1),
        )
        await _until_run(stub, lot, "respond")
        await others.say(
            "clinical",
            clinical.FollowUpSummarised(run=run.run, site=SITE, plans=1, answered=1, complete=True),
        )
        await others.say("capa", production.CapaProposed(capa="c1", run=run.run))
        await _until_run(stub, lot, "approve")
        await others.say("capa", production.ProcessLimitChanged(capa="c1", run=run.run))
        await others.say("rnd", rnd.InsightRecorded(insight="i1", run=run.run))
        closed = await _until_run(stub, lot, "", api.RUN_STATE_CLOSED)
        assert [stage.name for stage in closed.stages] == [
            "trace", "receive", "hold", "plan", "seal", "evaluate", "notify", "respond",
            "propose", "approve", "learn",
        ]  # fmt: skip
        whole = closed.stages[-1].ended.ToDatetime() - closed.began.ToDatetime()
        assert closed.seconds == pytest.approx(whole.total_seconds(), abs=1e-3)
        assert (closed.closed.members, closed.closed.patients, closed.closed.answered) == (2, 2, 1)
        status = await common_grpc.StatusServiceStub(channel).GetStatus(common.GetStatusRequest(), timeout=5)
        (machine,) = [runner for runner in status.runners if runner.name == "loops.cases"]
        assert (status.health, machine.state, machine.dead_letters) == ("serving", "running", 0)
        (letters,) = [runner for runner in status.runners if runner.name == "loops.cases.letters"]
        assert (letters.state, letters.parked_keys) == ("running", 0), "its dead letters are looked after"
        assert machine.records >= 10, "it took the case's events"
        assert sum(p.topic == CASE_TOPIC for p in status.positions.positions) > 0


async def _until_case(
    stub: api_grpc.LoopsServiceAsyncStub, loop: str, case: str, stage: str, state: int = 0
) -> api.Run:
    async with asyncio.timeout(60):
        while True:
            answer = await stub.ListRuns(api.ListRunsRequest(loop=loop, case=case), timeout=5)
            for run in answer.runs:
                if run.stage == stage and state in (0, run.state):
                    return run
            await asyncio.sleep(0.02)


async def test_a_transfer_and_a_study_go_through_every_stage_beside_one_another(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    mark, product = uuid.uuid4().hex, "maker/item/G"
    transfer, study = transfer_case(mark, "plant-b"), study_case(mark)
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        stub = api_grpc.LoopsServiceStub(channel)
        plant, sites = Others(app, transfer), Others(app, study)

        released = rnd.ParameterSetReleased(set=mark, version=1, product=product, plant="plant-b")
        await plant.say("rnd", released)
        request = exchange.StudyRequested(study=mark, product=product, sites=[SITE])
        await sites.say("exchange", request)
        opened = await _until_case(stub, "transfer", transfer, "adapt")
        plant.run = run = opened.run
        assert (opened.opened_transfer.version, opened.opened_transfer.plant) == (1, "plant-b")
        asked = await _until_case(stub, "evidence", study, "approve")
        sites.run = asked.run
        assert (asked.opened_evidence.study, asked.HasField("opened")) == (mark, False)

        await plant.say("production", production.TwinAdapted(transfer=transfer, run=run, version=1))
        await _until_case(stub, "transfer", transfer, "advise")
        await plant.say("production", production.OptimisationProposed(transfer=transfer, run=run))
        await sites.say("exchange", exchange.StudyApproved(study=mark, site=SITE))
        await _until_case(stub, "evidence", study, "freeze")
        await sites.say("exchange", exchange.JobOpened(study=mark, job="j", participants=[SITE]))
        await sites.say("exchange", exchange.CohortFrozen(study=mark, job="j", site=SITE))
        await sites.say("exchange", exchange.JobAudited(study=mark, job="j"))
        await _until_case(stub, "evidence", study, "publish")
        await _until_case(stub, "transfer", transfer, "sign")
        await plant.say("production", production.OptimisationDecided(transfer=transfer, run=run))
        await plant.say("production", production.RecipeEffective(transfer=transfer, run=run))
        lot = f"{product}/{mark}"
        await plant.say("production", production.TransferOutcomeRecorded(transfer=transfer, run=run, lot=lot))
        await plant.say("calibration", rnd.PredictionCalibrated(calibration="c", transfer=transfer, lot=lot))
        await sites.say("exchange", exchange.InsightPublished(study=mark, insight="i"))
        await sites.say("hypothesis", rnd.HypothesisUpdated(hypothesis="h", study=mark))

        made = await _until_case(stub, "transfer", transfer, "", api.RUN_STATE_CLOSED)
        assert [stage.name for stage in made.stages] == [
            "adapt", "advise", "sign", "validate", "produce", "learn",
        ]  # fmt: skip
        assert (made.closed.set, made.closed.version, list(made.closed.lots)) == (mark, 1, [lot])
        found = await _until_case(stub, "evidence", study, "", api.RUN_STATE_CLOSED)
        assert [stage.name for stage in found.stages] == [
            "approve",
            "freeze",
            "compute",
            "publish",
            "take-up",
        ]
        assert (found.closed.study, found.closed.insight) == (mark, "i")

        await plant.say(
            "rnd", rnd.ParameterSetReleased(set=mark, version=2, product=product, plant="plant-b")
        )
        second = await _until_case(stub, "transfer", transfer, "adapt")
        cancel = api.CancelRunRequest(request_id=mark, run=second.run, reason="released too early")
        await stub.CancelRun(cancel, metadata=metadata("head-of-quality"), timeout=10)
        ended = (await _until_case(stub, "transfer", transfer, "", api.RUN_STATE_CLOSED)).closed
        while ended.run != second.run:
            await asyncio.sleep(0.02)
            ended = (await _until_case(stub, "transfer", transfer, "", api.RUN_STATE_CLOSED)).closed
        assert (ended.outcome, ended.actor) == (loops.RUN_OUTCOME_CANCELLED, "head-of-quality")
        for loop, outcome in (("transfer", "closed"), ("transfer", "cancelled"), ("evidence", "closed")):
            labels = {"loop": loop, "outcome": outcome}
            assert app.metrics.registry.get_sample_value(LOOP_RUNS.name, labels) == 1
