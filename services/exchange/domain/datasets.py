"""Datasets that sites offer, and what is left of an analyst's budget for each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain.disclosure import budget
from services.exchange.domain.disclosure.budget import Grant
from services.refusals import Malformed, Refusal

_ID = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")
_KEY_BYTES = 32
_MOST_QUERIES, _MOST_ROUNDS, _MOST_EPSILON = 100_000, 10_000_000, 1_000.0


@dataclass(frozen=True)
class Dataset:
    """A dataset; `registered` is its newest DatasetRegistered."""

    dataset: str
    site: str
    registered: bytes

    def message(self) -> events.DatasetRegistered:
        return events.DatasetRegistered.FromString(self.registered)

    @property
    def grant(self) -> Grant:
        """What its owner grants one analyst."""
        said = self.message()
        return Grant(
            said.queries_per_analyst,
            said.rounds_per_analyst if said.HasField("rounds_per_analyst") else budget.USUAL_ROUNDS,
            said.epsilon_per_analyst if said.HasField("epsilon_per_analyst") else budget.USUAL_EPSILON,
        )


def decide_register(
    held: Dataset | None, asked: events.DatasetRegistered, of_site: Iterable[Dataset] = ()
) -> list[Message]:
    """Register a dataset, or say anew what it offers; the site and its signing key stay.

    `of_site` are all datasets of the site: it signs with one key, whatever it offers.
    """
    if not _ID.fullmatch(asked.dataset) or not asked.dataset.startswith(f"{asked.site}/"):
        said = f"a dataset is called after its site, {asked.site or 'site'}/name, in small letters and digits"
        raise Malformed("BAD_NAME", said, "dataset")
    if not asked.title.strip():
        raise Malformed("REQUIRED", "give the dataset a name for people", "title")
    for field in ("signing_key", "mask_key"):
        if len(getattr(asked, field)) != _KEY_BYTES:
            raise Malformed("BAD_KEY", f"a public key has {_KEY_BYTES} bytes", field)
    if not 0 < asked.queries_per_analyst <= _MOST_QUERIES:
        said = f"one analyst may put 1 to {_MOST_QUERIES} queries"
        raise Malformed("OUT_OF_RANGE", said, "queries_per_analyst")
    _check_grant(asked)
    known = [*of_site, *([held] if held else [])]
    if any(one.message().signing_key != asked.signing_key for one in known):
        said = "the site's signing key is on record and is not exchanged; register with that key"
        raise Refusal("KEY_ON_RECORD", said, "signing_key")
    if held is None:
        return [asked]
    before = held.message()
    before.actor = asked.actor
    return [] if before == asked else [asked]


def _check_grant(asked: events.DatasetRegistered) -> None:
    if asked.HasField("rounds_per_analyst") and not 0 < asked.rounds_per_analyst <= _MOST_ROUNDS:
        said = f"one analyst may ask for 1 to {_MOST_ROUNDS} rounds"
        raise Malformed("OUT_OF_RANGE", said, "rounds_per_analyst")
    epsilon = asked.epsilon_per_analyst
    if not (math.isfinite(epsilon) and 0 <= epsilon <= _MOST_EPSILON):
        said = f"one analyst may spend an epsilon from 0 (no study with noise) to {_MOST_EPSILON:g}"
        raise Malformed("OUT_OF_RANGE", said, "epsilon_per_analyst")


def evolve(held: Dataset | None, event: Message) -> Dataset:
    """The dataset after one of its own events."""
    assert isinstance(event, events.DatasetRegistered)
    return Dataset(event.dataset, event.site, event.SerializeToString(deterministic=True))


def check_offers(dataset: Dataset, product: str, covariates: Iterable[int]) -> None:
    """Refuses a study of another product, or of a covariate that the dataset cannot give."""
    offered = dataset.message()
    if offered.products and product not in offered.products:
        said = f"{dataset.dataset} holds no recipients of {product}; ListDatasets shows whose it holds"
        raise Refusal("OTHER_PRODUCT", said, "definition.product")
    lacking = sorted(set(covariates) - set(offered.covariates))
    if lacking:
        said = f"{dataset.dataset} cannot give every covariate that is asked; ListDatasets shows those it can"
        raise Refusal("NO_SUCH_COVARIATE", said, "definition.covariates")
