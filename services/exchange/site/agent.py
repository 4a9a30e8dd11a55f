"""The agent: hears its tasks in a call that it opened itself, and answers each job in its order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from grpc import StatusCode, aio

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.domain.aggregation.messages import MaskedVector, Opening
from services.exchange.site.session import Session, Site
from services.kit.errors import Retryable
from services.kit.ids import derived_id, new_id
from services.kit.log import get_logger
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.refusals import Refusal

_log = get_logger("exchange.agent")
_AGAIN_SECONDS = 1.0
_CALL_SECONDS = 20.0
#: The standing call is begun anew after so long.
_CALL_OPEN_SECONDS = 3600.0
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
#: A call that stood so long was a good one: the next follows soon.
_STANDS_SECONDS = 10.0
#: A confirmation that took longer on its way is signed anew.
_CONFIRM_SECONDS = 5.0
#: How often a refusal is told to an exchange that does not answer; then the job's time-out tells it.
_DECLINES = 5
#: A message may have so many bytes, and no more.
_MOST_BYTES = 3_900_000
_JOBS_AT_ONCE = 8


class Agent:
    """One site's agent on one connection."""

    def __init__(
        self,
        site: Site,
        exchange: api_grpc.ExchangeServiceAsyncStub,
        sites: api_grpc.SiteServiceAsyncStub,
        title: str,
    ) -> None:
        self._site = site
        self._exchange, self._stub = exchange, sites
        self._who = metadata(f"agent/{site.name}")
        self._offer = api.RegisterDatasetRequest(
            dataset=site.dataset,
            site=site.name,
            title=title,
            covariates=[cohort.Covariate.Name(number) for number in cohort.Covariate.values()[1:]],
            queries_per_analyst=site.grant.queries,
            rounds_per_analyst=site.grant.rounds,
            epsilon_per_analyst=site.grant.epsilon,
            signing_key=site.keys.signing_key,
            mask_key=site.keys.mask_key,
        )
        #: What is said in the standing call; a queue of its own for each call.
        self._saying: asyncio.Queue[api.WorkRequest] = asyncio.Queue()
        self._queues: dict[str, asyncio.Queue[api.WorkResponse]] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Register and work, again and again, until cancelled."""
        pause = _PAUSE_SECONDS
        try:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._register()
                    await self._work()
                    _log.warning("another call of this site took the place: is a second agent running?")
                except aio.AioRpcError as error:
                    if error.code() != StatusCode.DEADLINE_EXCEEDED:
                        _log.warning("the exchange does not answer", code=error.code().name)
                stood = asyncio.get_running_loop().time() - began >= _STANDS_SECONDS
                await asyncio.sleep(pause)
                pause = _PAUSE_SECONDS if stood else min(2 * pause, _LONGEST_PAUSE_SECONDS)
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _register(self) -> None:
        """Offer the dataset; the same offer has one effect, however often it is made."""
        offer = api.RegisterDatasetRequest()
        offer.CopyFrom(self._offer)
        offer.request_id = derived_id("offer", offer.SerializeToString(deterministic=True).hex())
        await self._exchange.RegisterDataset(offer, timeout=_CALL_SECONDS, metadata=self._who)

    async def _work(self) -> None:
        """One standing call: tasks come, answers of rounds go."""
        saying: asyncio.Queue[api.WorkRequest] = asyncio.Queue()
        self._saying = saying
        saying.put_nowait(api.WorkRequest(hello=api.Hello(site=self._site.name)))
        async for task in self._stub.Work(_each(saying), timeout=_CALL_OPEN_SECONDS, metadata=self._who):
            self._give(task)

    def _give(self, task: api.WorkResponse) -> None:
        """Put a task before the job's worker."""
        name = task.WhichOneof("task") or ""
        job = getattr(getattr(task, name), "job", "") if name else ""
        if name == "welcome":
            for over in set(self._queues) - set(task.welcome.jobs):
                self._forget(over)
        elif name == "over":
            self._forget(job)
        elif job in self._queues:
            if name != "freeze":  # asked again after a broken connection: it is being answered
                self._queues[job].put_nowait(task)
        elif name == "freeze" and len(self._queues) < _JOBS_AT_ONCE:
            self._queues[job] = asyncio.Queue()
            self._working[job] = asyncio.ensure_future(self._do(job, task.freeze))
        elif name == "freeze":
            self._spawn_decline(job, Refusal("SITE_BUSY", "the site computes other jobs; later", "job"))
        elif name and name != "refused":
            said = "this site's agent was restarted, and the keys of the job went with it"
            self._spawn_decline(job, Refusal("SITE_RESTARTED", said, "job"))

    def _spawn_decline(self, job: str, refusal: Refusal) -> None:
        place = f"{job}/declined"
        told = self._working[place] = asyncio.ensure_future(self._decline(job, refusal))
        told.add_done_callback(lambda _: self._working.pop(place, None))

    def _forget(self, job: str) -> None:
        self._queues.pop(job, None)
        working = self._working.pop(job, None)
        if working is not None:
            working.cancel()

    async def _do(self, job: str, freeze: api.FreezeTask) -> None:
        """The tasks of one job, one after the other. A refusal ends the job here."""
        try:
            session = Session(self._site, freeze)
            await self._freeze(session, job)
            while True:
                await self._one(session, await self._queues[job].get())
        except Refusal as refusal:
            _log.info("refused", job=job, reason=refusal.reason)
            await self._decline(job, refusal)
        except Retryable as error:
            _log.warning("the site's own records do not answer", job=job, error=str(error))
            said = "the site's own records do not answer; the next job asks them again"
            await self._decline(job, Refusal("SITE_UNAVAILABLE", said, "job"))
        except Exception as error:  # noqa: BLE001 -- the others must not wait for a site that has failed
            _log.error("job failed", job=job, exc_info=error)
            await self._decline(
                job, Refusal("SITE_FAULT", "the site's agent failed; its log says why", "job")
            )

    async def _freeze(self, session: Session, job: str) -> None:
        said = api.SubmitCohortRequest(request_id=new_id(), job=job, key=api.SiteKey(site=self._site.name))
        try:
            key, quality = await session.freeze()
            said.key.CopyFrom(key)
            said.quality.extend(quality)
        except Refusal as refusal:
            said.refusals.add(reason=refusal.reason, statement=refusal.description)
        # Asked again in the next call, it would be taken for a freeze that is being answered: so what got
        # lost on the way is sent again here, until the job is over.
        await self._insist(self._stub.SubmitCohort, said)

    async def _insist(self, method: Callable[..., Awaitable[Any]], request: Any) -> None:
        """Say it until it arrives, or the job is over."""
        while not await self._arrived(method, request):
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _arrived(
        self, method: Callable[..., Awaitable[Any]], request: Any, seconds: float = _CALL_SECONDS
    ) -> bool:
        """Was the call answered? Raises Refusal for what the exchange refuses."""
        try:
            await method(request, timeout=seconds, metadata=self._who)
        except aio.AioRpcError as error:
            _refused(error)
            return False
        return True

    async def _one(self, session: Session, task: api.WorkResponse) -> None:
        match task.WhichOneof("task"):
            case "begin":
                await session.begin(task.begin)
            case "round":
                self._say(vector=_vector(await session.answer(task.round)))
            case "open":
                self._say(opening=_opening(task.open.job, await session.open(task.open)))
            case "refused":
                told = task.refused.refusal
                raise Refusal(told.reason, told.statement, "job")
            case "evaluate":
                await self._evaluate(session, task.evaluate)
            case "confirm":
                await self._confirm(session, task.confirm)

    async def _confirm(self, session: Session, task: api.ConfirmTask) -> None:
        """Look and sign, anew where the last word got lost or took too long."""
        while True:
            signature = await session.confirm(task.nonce)
            said = api.ConfirmCohortRequest(
                request_id=new_id(),
                job=task.job,
                site=self._site.name,
                compute_seconds=session.compute_seconds,
                nonce=task.nonce,
                signature=signature,
            )
            if await self._arrived(self._stub.ConfirmCohort, said, _CONFIRM_SECONDS):
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _evaluate(self, session: Session, task: api.EvaluateTask) -> None:
        said = api.SubmitEvaluationRequest(
            request_id=f"{task.job}/{'+'.join(task.coalition)}/{task.round}/{self._site.name}",
            job=task.job,
            coalition=task.coalition,
            round=task.round,
            vector=await session.evaluate(task),
        )
        await self._insist(self._stub.SubmitEvaluation, said)

    async def _decline(self, job: str, refusal: Refusal) -> None:
        said = api.DeclineTaskRequest(
            request_id=new_id(),
            job=job,
            site=self._site.name,
            refusal=api.TaskRefusal(reason=refusal.reason, statement=refusal.description),
        )
        with contextlib.suppress(Refusal):  # of a refusal nothing more is to be said
            for _ in range(_DECLINES):
                if await self._arrived(self._stub.DeclineTask, said):
                    return
                await asyncio.sleep(_AGAIN_SECONDS)

    def _say(self, **said: Any) -> None:
        """Answer in the standing call. If it has ended meanwhile, the next one asks again."""
        told = api.WorkRequest(**said)
        if told.ByteSize() > _MOST_BYTES:
            raise Refusal("VECTOR_TOO_LARGE", "a round has too many numbers: ask a smaller model", "terms")
        self._saying.put_nowait(told)


async def _each(saying: asyncio.Queue[api.WorkRequest]) -> AsyncIterator[api.WorkRequest]:
    while True:
        yield await saying.get()


def _vector(masked: MaskedVector) -> api.RoundVector:
    stated = masked.statement
    return api.RoundVector(
        job=masked.job,
        round=masked.round,
        attempt=masked.attempt,
        context=masked.context,
        words=masked.words,
        statement=api.RoundStatement(
            site=stated.site, vector=stated.vector, seed=stated.seed, signature=stated.signature
        ),
    )


def _opening(job: str, opening: Opening) -> api.RoundOpening:
    return api.RoundOpening(job=job, site=opening.site, context=opening.context, seed=opening.seed)


def _refused(error: aio.AioRpcError) -> None:
    """Raises Refusal for what the exchange refuses; an exchange that is away refuses nothing."""
    reason, _ = reason_of(error)
    _log.warning("not taken", code=error.code().name, reason=reason)
    if reason:
        raise Refusal(reason, error.details() or reason, "job") from None
