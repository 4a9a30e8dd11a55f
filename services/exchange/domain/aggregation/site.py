"""A site's side of a round: mask an update once, open the self-mask once.

`Memory` is what a site must have stored before an answer leaves it: without it,
a restarted site could mask two vectors under one keystream, or open two sets.
It is small and of constant shape apart from one row an opened parameter point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.exchange.domain.aggregation import layout as fixed
from services.exchange.domain.aggregation import masks
from services.exchange.domain.aggregation.context import Context, packed
from services.exchange.domain.aggregation.keys import Session
from services.exchange.domain.aggregation.messages import (
    MaskedVector,
    Opening,
    SignedSet,
    Statement,
    check_statement,
    hashed,
    statement_bytes,
)
from services.refusals import Absent, Refusal


@dataclass(frozen=True, slots=True)
class Memory:
    """What a site did last in a job, as hashes.

    `context`, `vector` and `masked` are of attempt `attempt` at round `round`;
    `opened` says whether its self-mask was opened. `points` maps the hash of
    parameters at which the site has opened to the hash of who was summed there.
    """

    round: int = 0
    attempt: int = 0
    context: bytes = b""
    vector: bytes = b""
    masked: bytes = b""
    opened: bool = False
    points: Mapping[bytes, bytes] = field(default_factory=dict)


def mask(
    memory: Memory, session: Session, context: Context, vector: fixed.Floats
) -> tuple[Memory, MaskedVector]:
    """The update under the masks of this context, signed; store the memory before sending it.

    The same vector for the same context gives the same answer. Refused: a
    vector out of bounds, another vector or another context under an attempt
    already answered, an attempt older than the last, and parameters at which
    the site has opened for other sites or another cohort.
    """
    _check_session(session, context)
    context.layout.check(vector)
    words = context.layout.encode(vector)
    digest = context.digest()
    # Under the job's secret, as few enough vectors are likely to be tried one by one.
    of_vector = hashed(packed(session.keys.own, fixed.to_bytes(words)))
    _check_order(memory, context, digest, of_vector)
    seed = masks.self_key(session.keys.own, session.keys.site, context)
    data = fixed.to_bytes(_masked(session, context, words, seed))
    made = MaskedVector(
        job=context.job,
        round=context.round,
        attempt=context.attempt,
        context=digest,
        words=data,
        statement=_stated(session, digest, hashed(data), hashed(seed)),
    )
    if memory.context == digest:
        return memory, made
    after = replace(
        memory,
        round=context.round,
        attempt=context.attempt,
        context=digest,
        vector=of_vector,
        masked=hashed(data),
        opened=False,
    )
    return after, made


def _check_session(session: Session, context: Context) -> None:
    if context.job != session.keys.job:
        raise Refusal("OTHER_JOB", f"these keys belong to job {session.keys.job!r}", "job")
    if session.keys.site not in context.participants:
        raise Refusal("NOT_A_PARTICIPANT", f"{session.keys.site!r} is not in this round", "participants")
    for peer in context.participants:
        if peer != session.keys.site and peer not in session.shared:
            raise Absent(
                "NO_KEY_OF_SITE",
                f"there is no certified key of {peer!r} for this job: exchange keys",
                "participants",
            )


def _check_order(memory: Memory, context: Context, digest: bytes, vector: bytes) -> None:
    now, last = (context.round, context.attempt), (memory.round, memory.attempt)
    if now < last:
        raise Refusal(
            "SUPERSEDED",
            f"this site has answered round {last[0]}, attempt {last[1]}: follow that one",
            "attempt",
        )
    if now == last and digest != memory.context:
        raise Refusal(
            "ATTEMPT_TAKEN",
            "this attempt was answered for other participants, parameters or cohort: open a new attempt",
            "attempt",
        )
    if now == last and vector != memory.vector:
        raise Refusal(
            "KEYSTREAM_USED",
            "this attempt was answered with another vector, the difference would show: open a new attempt",
            "vector",
        )
    if context.round == memory.round and now != last and memory.opened:
        raise Refusal(
            "ROUND_OPENED", "this site has opened its mask for another attempt at this round", "attempt"
        )
    summed = memory.points.get(context.parameters)
    if summed is not None and summed != context.members():
        raise Refusal(
            "OTHER_MEMBERS_AT_SAME_PARAMETERS",
            "this site has opened at these parameters for other sites or another cohort, and the difference "
            "of the two totals would show who left: go on from new parameters, or start a new job",
            "parameters",
        )


def _masked(session: Session, context: Context, words: fixed.Words, seed: bytes) -> fixed.Words:
    own, encoded = session.keys.site, context.encoded()
    total = fixed.add(words, masks.stream(seed, context.layout))
    for peer in context.participants:
        if peer == own:
            continue
        stream = masks.stream(masks.pair_key(session.shared[peer], own, peer, encoded), context.layout)
        # The lower name adds what the higher one subtracts.
        total = fixed.add(total, stream) if own < peer else fixed.subtract(total, stream)
    return total


def _stated(session: Session, context: bytes, vector: bytes, seed: bytes) -> Statement:
    signed = statement_bytes(context, session.keys.site, vector, seed)
    signature = Ed25519PrivateKey.from_private_bytes(session.identity).sign(signed)
    return Statement(site=session.keys.site, vector=vector, seed=seed, signature=signature)


def opening(memory: Memory, session: Session, signed: SignedSet) -> tuple[Memory, Opening]:
    """The seed of the self-mask for a set that every participant signed; store the memory first.

    Once a round: repeated for the same set it gives the same answer, for any
    other set it is refused. Refused too when a signature is missing or does not
    hold, or when the set names another vector of this site than it sent.
    """
    context, site = signed.context, session.keys.site
    digest = context.digest()
    _check_session(session, context)
    if digest != memory.context:
        raise _not_current(memory, context)
    if set(signed.statements) != set(context.participants):
        missing = sorted(set(context.participants) - set(signed.statements))
        raise Refusal(
            "NOT_ALL_SIGNED",
            f"the set is not signed by exactly its participants; missing: {missing}",
            "statements",
        )
    for peer, statement in signed.statements.items():
        if statement.site != peer:
            raise Refusal(
                "NOT_SIGNED", f"the statement filed under {peer!r} is of {statement.site!r}", "statements"
            )
        if peer != site:  # the site's own signature proves nothing to itself
            check_statement(statement, digest, session.identities)
    if signed.statements[site].vector != memory.masked:
        raise Refusal(
            "VECTOR_EXCHANGED", "the set names another vector of this site than it sent", "statements"
        )
    seed = masks.self_key(session.keys.own, site, context)
    points = {**memory.points, context.parameters: context.members()}
    return replace(memory, opened=True, points=points), Opening(context=digest, site=site, seed=seed)


def _not_current(memory: Memory, context: Context) -> Refusal:
    if context.round == memory.round and memory.opened:
        return Refusal(
            "ROUND_OPENED",
            "this site has opened its mask for another set at this round: it opens one",
            "context",
        )
    return Refusal(
        "NOT_MASKED",
        f"this site's last answer was to round {memory.round}, attempt {memory.attempt}, "
        "and not for this set: it opens nothing else",
        "context",
    )
