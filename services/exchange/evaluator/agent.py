"""The evaluator's side of the connection: registers, watches for jobs, values them one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from grpc import StatusCode, aio

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.domain import models
from services.exchange.domain.contribution import evaluation as valuing
from services.exchange.domain.contribution.evaluation import Evaluation, NotValued, Utility
from services.exchange.domain.contribution.shapley import Coalition
from services.exchange.domain.stats.protocol import Ask
from services.exchange.evaluator.valuation import Valuation
from services.exchange.site.seen import SeenDataset, SeenStudy
from services.exchange.valuing import ASK, COORDINATOR, DIGITS, TICKET
from services.kit import hpke
from services.kit.errors import Invalid
from services.kit.ids import derived_id, new_id
from services.kit.log import get_logger
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.refusals import Refusal

_log = get_logger("exchange.evaluator")
_CALL_SECONDS = 60.0
_WATCH_SECONDS = 3600.0
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0


class Evaluator:
    """The evaluator on one connection. `study` and `keys` (of sites) read what the topics have told."""

    def __init__(
        self,
        name: str,
        private_key: bytes,
        exchange: api_grpc.EvaluatorServiceAsyncStub,
        study: Callable[[str], Awaitable[SeenStudy]],
        keys: Callable[[], Awaitable[Mapping[str, SeenDataset]]],
    ) -> None:
        self._name, self._private = name, private_key
        self._public = hpke.public_of(private_key)
        self._stub, self._study, self._keys = exchange, study, keys
        self._who = metadata(f"evaluator/{name}")

    async def run(self) -> None:
        """Register and watch, again and again, until cancelled."""
        pause = _PAUSE_SECONDS
        while True:
            try:
                await self._register()
                pause = _PAUSE_SECONDS
                await self._watch()
            except aio.AioRpcError as error:
                if error.code() != StatusCode.DEADLINE_EXCEEDED:
                    reason, _ = reason_of(error)
                    _log.warning("the exchange does not answer", code=error.code().name, reason=reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _register(self) -> None:
        request = api.RegisterEvaluatorRequest(
            request_id=derived_id("evaluator", self._name, self._public.hex()),
            evaluator=self._name,
            key=self._public,
        )
        await self._stub.RegisterEvaluator(request, timeout=_CALL_SECONDS, metadata=self._who)

    async def _watch(self) -> None:
        """One job after the other: a valuation is a few hundred sums, and nobody waits for it."""
        request = api.WatchValuationsRequest(evaluator=self._name)
        async for task in self._stub.WatchValuations(request, timeout=_WATCH_SECONDS, metadata=self._who):
            if task.job:
                await self._value(task)

    async def _value(self, task: api.WatchValuationsResponse) -> None:
        said = api.SubmitValuesRequest(request_id=new_id(), job=task.job)
        try:
            said.ticket = hpke.open_sealed(self._private, task.ticket, TICKET, task.job.encode())
            done = await self._valued(task, said.ticket)
            for coalition, value in valuing.told(done).items():
                if coalition:
                    said.values.add(coalition=sorted(coalition), value=value)
        except (Refusal, Invalid) as refusal:
            _log.warning("not valued", job=task.job, reason=refusal.reason)
            said.not_valued = refusal.reason
        except aio.AioRpcError as error:
            # The exchange knows why: a site left, or the time was over.
            _log.warning("not valued", job=task.job, code=error.code().name)
            said.not_valued = reason_of(error)[0] or "EXCHANGE_AWAY"
        except Exception as error:  # noqa: BLE001 -- the next job must not wait for one that fails
            _log.error("valuation failed", job=task.job, exc_info=error)
            said.not_valued = "EVALUATOR_FAULT"
        await self._stub.SubmitValues(said, timeout=_CALL_SECONDS, metadata=self._who)

    async def _valued(self, task: api.WatchValuationsResponse, ticket: bytes) -> Evaluation:
        seen = await self._study(task.study)
        study = seen.message()
        if study.evaluator != self._name or study.evaluator_key != self._public:
            said = "the study names another key for this evaluator: somebody registered in its name"
            raise Refusal("KEY_REPLACED", said, "evaluator_key")
        agreed = _agreed(task, study, seen)
        await asyncio.to_thread(models.load)
        public = study.profile == events.DISCLOSURE_PROFILE_PUBLIC_DATA
        spec, _ = models.specification(study.model, study.specification, public=public)
        keys = await self._keys()

        async def ask(coalition: Coalition, asked: Ask, everybody: bool) -> Mapping[str, bytes]:
            return await self._asked(
                task.job, ticket, coalition, asked, task.sites if everybody else coalition, keys
            )

        def open_(sealed: bytes, info: bytes, aad: bytes) -> bytes:
            return hpke.open_sealed(self._private, sealed, info, aad)

        return await Valuation(agreed, study.model, spec, study.most_rounds, ask, open_).all()

    async def _asked(
        self,
        job: str,
        ticket: bytes,
        coalition: Coalition,
        asked: Ask,
        sites: Iterable[str],
        keys: Mapping[str, SeenDataset],
    ) -> Mapping[str, bytes]:
        """What the sites sealed; Refusal where a signature under it is not its site's."""
        names = sorted(coalition)
        request = api.AskCoalitionRequest(
            request_id=f"{job}/{'+'.join(names)}/{asked.round}",
            ticket=ticket,
            job=job,
            coalition=names,
            round=asked.round,
        )
        plain = api.EvaluationAsk(phase=asked.phase, parameters=asked.parameters).SerializeToString()
        for site in sorted(sites):
            aad = valuing.bound(job, coalition, asked.round, site)
            request.asks.add(site=site, sealed=hpke.seal(_key_of(keys, site).mask_key, plain, ASK, aad))
        answer = await self._stub.AskCoalition(request, timeout=_CALL_SECONDS, metadata=self._who)
        for one in answer.vectors:
            signed = valuing.statement(job, coalition, asked.round, one.site, one.sealed)
            _check_signature(_key_of(keys, one.site).signing_key, one, signed)
        return {one.site: one.sealed for one in answer.vectors}


def _agreed(task: api.WatchValuationsResponse, study: events.StudyRequested, seen: SeenStudy) -> Evaluation:
    """The valuation that every owner of the study agreed to, of the sites that answered."""
    if not study.valued or not set(task.sites) <= set(study.sites):
        raise Refusal("NOT_ASKED", "nobody asked to value these sites", "sites")
    without = sorted(set(study.sites) - set(seen.valuing))
    found = valuing.agreed(
        task.job,
        task.sites,
        [] if without else task.sites,
        study.evaluator,
        COORDINATOR,
        Utility.EXPLAINED,
        DIGITS,
    )
    if isinstance(found, NotValued):
        raise Refusal(found.reason, found.description, "sites")
    return found


def _key_of(keys: Mapping[str, SeenDataset], site: str) -> SeenDataset:
    found = keys.get(site)
    if found is None:
        raise Refusal("NO_KEY", f"the topic of datasets tells no key of {site!r}", "sites")
    return found


def _check_signature(key: bytes, one: api.SealedVector, signed: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(one.signature, signed)
    except (InvalidSignature, ValueError):
        said = f"what was sealed for {one.site!r} is not signed by it"
        raise Refusal("NOT_SIGNED", said, "signature") from None
