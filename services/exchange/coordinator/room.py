"""One job in memory: what its sites have said so far. It holds masked and sealed vectors, and
no site's numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain.aggregation import coordinator as rounds
from services.exchange.domain.aggregation.coordinator import Round
from services.exchange.domain.aggregation.keys import Certificate, check_certificate, check_confirmation
from services.exchange.domain.aggregation.messages import MaskedVector, Opening
from services.refusals import Refusal

ACCEPTED, DUPLICATE = "ACCEPTED", "DUPLICATE"
#: What became of what came for a job that is over, or that nobody computes here.
JOB_OVER = "JOB_OVER"
#: It answers an earlier question whether the cohort still stands.
OTHER_CONFIRMATION = "OTHER_CONFIRMATION"


@dataclass(frozen=True)
class Declined:
    """A site does not do what it was asked: the rule, and a sentence."""

    reason: str
    statement: str


@dataclass
class Sealing:
    """One round of a coalition's fit: what its sites have sealed to the evaluator so far."""

    coalition: frozenset[str]
    round: int
    sites: tuple[str, ...]
    received: dict[str, api.SealedVector] = field(default_factory=dict)

    def missing(self) -> list[str]:
        return [site for site in self.sites if site not in self.received]


@dataclass
class Room:
    """What the participants of one job have said. `identities` are their signing keys, as registered."""

    study: str
    job: str
    participants: tuple[str, ...]
    identities: Mapping[str, bytes]
    cohorts: dict[str, api.SubmitCohortRequest] = field(default_factory=dict)
    declined: dict[str, Declined] = field(default_factory=dict)
    #: Seconds that a site computed, as it told when it confirmed its cohort; and when that was, loop time.
    confirmed: dict[str, float] = field(default_factory=dict)
    confirmed_at: dict[str, float] = field(default_factory=dict)
    #: What a site's confirmation has to bear, so that none of before counts.
    nonces: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    round: Round | None = None
    #: Rounds whose sum was taken.
    taken: int = 0
    sealing: Sealing | None = None
    stopped: str = ""
    #: What a site was asked last, after it was told whom it computes with: an agent that comes back is
    #: told both again.
    asked: dict[str, tuple[api.WorkResponse, ...]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until it is done, or the time is over; answers whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return done()
        return True

    def ends(self, sites: Iterable[str]) -> bool:
        """Was the job stopped, or has one of the sites declined?"""
        return bool(self.stopped) or any(site in self.declined for site in sites)

    def lacks(self, sites: Iterable[str]) -> bool:
        """Has one of the sites left, or declined, or was the job stopped?"""
        return self.ends(sites) or any(site in self.gone for site in sites)

    def stop(self, why: str) -> None:
        """Somebody ended the study: nothing more is computed."""
        self.stopped = why
        self._changed.set()

    def left(self, site: str) -> None:
        """The site's connection has ended."""
        if site in self.participants:
            self.gone.add(site)
            self._changed.set()

    def ask(self, site: str, task: api.WorkResponse) -> None:
        """Note what a site is asked."""
        before = self.asked.get(site, ())
        begun = tuple(one for one in before if one.WhichOneof("task") == "begin")
        self.asked[site] = (*begun, task)

    def back(self, site: str) -> tuple[api.WorkResponse, ...]:
        """The site is connected again: what it is asked."""
        self.gone.discard(site)
        return self.asked.get(site, ())

    def cohort(self, said: api.SubmitCohortRequest) -> str:
        """A site froze its cohort or refuses. A second word that differs from the first is refused."""
        site = self._known(said.key.site)
        if site in self.cohorts:
            before = self.cohorts[site]
            if before.key == said.key:
                return DUPLICATE
            raise Refusal("SECOND_COHORT", f"{site!r} froze another cohort for this job", "key")
        if not said.refusals:
            key = said.key
            check_certificate(Certificate(self.job, site, key.key, key.signature), self.job, self.identities)
            if len(key.cohort_hash) != 32:
                raise Refusal("NO_HASH", "the hash of a cohort has 32 bytes", "key.cohort_hash")
        self.cohorts[site] = said
        self._changed.set()
        return ACCEPTED

    def vector(self, said: MaskedVector) -> str:
        """A masked vector; of another attempt it is ignored."""
        self._known(said.site)
        if self.round is None:
            return rounds.Receipt.OTHER_ROUND.name
        self.round, receipt = rounds.collect(self.round, said, self.identities)
        return self._took(receipt)

    def opening(self, said: Opening) -> str:
        """The seed of a site's own mask."""
        self._known(said.site)
        if self.round is None:
            return rounds.Receipt.OTHER_ROUND.name
        self.round, receipt = rounds.accept(self.round, said)
        return self._took(receipt)

    def confirm(self, site: str, seconds: float, nonce: bytes, signature: bytes) -> str:
        """The site's cohort is still the frozen one, as the site itself signs; one of before is ignored."""
        frozen = self.cohorts.get(self._known(site))
        if frozen is None or frozen.refusals:
            raise Refusal("NOT_FROZEN", f"{site!r} froze no cohort for this job", "site")
        if nonce != self.nonces.get(site):
            return OTHER_CONFIRMATION
        if site in self.confirmed_at:
            return DUPLICATE
        check_confirmation(self.identities, self.job, site, frozen.key.cohort_hash, nonce, signature)
        self.confirmed[site] = seconds
        self.confirmed_at[site] = asyncio.get_running_loop().time()
        self._changed.set()
        return ACCEPTED

    def sealed(self, said: api.SubmitEvaluationRequest) -> str:
        """A vector that is sealed to the evaluator; of another round it is ignored."""
        site, now = self._known(said.vector.site), self.sealing
        if now is None or (now.coalition, now.round) != (frozenset(said.coalition), said.round):
            return rounds.Receipt.OTHER_ROUND.name
        if site not in now.sites:
            raise Refusal("NOT_A_PARTICIPANT", f"{site!r} was not asked in this round", "vector.site")
        if site in now.received:
            return DUPLICATE
        now.received[site] = said.vector
        self._changed.set()
        return ACCEPTED

    def decline(self, site: str, declined: Declined) -> str:
        """The site refuses a task."""
        self.declined.setdefault(self._known(site), declined)
        self._changed.set()
        return ACCEPTED

    def progress(self) -> api.JobProgress:
        """How far the job is, for whoever looks on: who has spoken, and nothing of what was said."""
        frozen = sorted(site for site, said in self.cohorts.items() if not said.refusals)
        told = api.JobProgress(frozen=frozen, rounds=self.taken)
        now = self.round
        if now is not None and now.context.round > self.taken:
            awaited = now.missing_vectors() or now.missing_openings()
            told.round, told.attempt = now.context.round, now.context.attempt
            told.answered[:] = sorted(now.vectors)
            told.awaited[:] = sorted(awaited)
        return told

    def _known(self, site: str) -> str:
        if site not in self.participants:
            raise Refusal("NOT_A_PARTICIPANT", f"{site!r} takes no part in this job", "site")
        return site

    def _took(self, receipt: rounds.Receipt) -> str:
        if receipt is rounds.Receipt.ACCEPTED:
            self._changed.set()
        return receipt.name
