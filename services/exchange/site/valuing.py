"""What a site answers the evaluator: of the cohort of one job, each round of each coalition's fit once."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain.contribution import evaluation
from services.exchange.domain.contribution.shapley import MOST_SITES
from services.exchange.domain.stats.protocol import Ask, Vector
from services.exchange.site.seen import SeenStudy
from services.exchange.valuing import ASK, COORDINATOR
from services.kit import hpke
from services.kit.errors import Invalid
from services.refusals import Refusal

#: Phase in which a site outside the coalition is asked, once: the fit is measured on its patients, too.
_MEASURED = "fit"


@dataclass
class Answered:
    """What one job's valuation was answered: digests of the asks, by coalition and round; and by coalition
    that the site is not in the one ask that measures it."""

    asked: dict[tuple[frozenset[str], int], str] = field(default_factory=dict)
    measured: dict[frozenset[str], int] = field(default_factory=dict)


def check_agreed(seen: SeenStudy, site: str, pinned: bytes) -> events.StudyRequested:
    """The study, where every owner agreed to its valuation by the evaluator that it names.

    `pinned` is the evaluator's key as the site was told it by another way; empty where it was not.
    """
    study = seen.message()
    without = sorted(set(study.sites) - set(seen.valuing))
    if study.epsilon:
        said = "the study asks for noise, and a contribution is valued by exact sums"
        raise Refusal("NOT_OFFERED", said, "valued")
    if not study.valued or without or not study.evaluator_key:
        said = f"not valued: {', '.join(without) or 'the study'} did not agree to it"
        raise Refusal("NOT_ALL_CONSENT", said, "valuation")
    if study.evaluator in {*study.sites, COORDINATOR, ""}:
        said = "the evaluator is an organisation of its own, neither the exchange nor a site"
        raise Refusal("EVALUATOR_NOT_APART", said, "evaluator")
    if pinned and study.evaluator_key != pinned:
        said = "the study names another key of the evaluator than this site was told (evaluator_key)"
        raise Refusal("KEY_REPLACED", said, "evaluator_key")
    if site not in study.sites:
        raise Refusal("NOT_ASKED", "the study does not ask this site", "site")
    return study


def opened_ask(task: api.EvaluateTask, site: str, key: bytes) -> api.EvaluationAsk:
    """What is asked; `key` is the private half of the site's mask key."""
    aad = evaluation.bound(task.job, task.coalition, task.round, site)
    try:
        return api.EvaluationAsk.FromString(hpke.open_sealed(key, task.sealed, ASK, aad))
    except (Invalid, DecodeError):
        said = "the evaluator's ask does not open: it was sealed for another site or round"
        raise Refusal("NOT_OPENED", said, "sealed") from None


def check_ask(
    answered: Answered, task: api.EvaluateTask, ask: Ask, site: str, owners: set[str], most_rounds: int
) -> None:
    """Refuses what is beyond the budget of one fit for each coalition; notes what is answered now."""
    coalition = frozenset(task.coalition)
    if not coalition or not coalition <= owners or len(owners) > MOST_SITES:
        raise Refusal("NOT_A_PARTICIPANT", "a coalition is of sites that computed the job", "coalition")
    # The last of a fit's rounds, and one that measures it.
    if not 0 < task.round <= most_rounds + 1:
        said = f"the study allows {most_rounds} rounds of one fit, and one that measures it"
        raise Refusal("TOO_MANY_ROUNDS", said, "round")
    place, digest = (coalition, task.round), ask.digest()
    if answered.asked.get(place, digest) != digest:
        said = "this round of this coalition was answered at other parameters"
        raise Refusal("FIT_SPENT", said, "round")
    if site not in coalition:
        if ask.phase != _MEASURED or answered.measured.get(coalition, task.round) != task.round:
            said = "a site outside the coalition is asked once, to measure its fit"
            raise Refusal("NOT_IN_COALITION", said, "coalition")
        answered.measured[coalition] = task.round
    answered.asked[place] = digest


def sealed(
    task: api.EvaluateTask, vector: Vector, site: str, identity: bytes, evaluator_key: bytes
) -> api.SealedVector:
    """The vector for the evaluator alone, signed by the site."""
    made = evaluation.sealed(
        vector,
        task.job,
        task.coalition,
        task.round,
        site,
        lambda plain, info, aad: hpke.seal(evaluator_key, plain, info, aad),
    )
    signed = evaluation.statement(task.job, task.coalition, task.round, site, made)
    signature = Ed25519PrivateKey.from_private_bytes(identity).sign(signed)
    return api.SealedVector(site=site, sealed=made, signature=signature)
