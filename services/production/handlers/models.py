"""Golden-run models between the domain and the log: trained, published, opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import golden, watch
from services.production.domain.equipment import Equipment
from services.production.domain.errors import Refusal
from services.production.domain.golden import LIMIT, GoldenModel
from services.production.domain.recipes import recipe_for
from services.production.domain.samples import Run


def train(product: str, runs: Sequence[Run], equipment: Mapping[str, Equipment]) -> events.GoldenModelTrained:
    """Train on the recorded runs. Takes seconds: not for the event loop."""
    tags = set.intersection(*(set(run.samples.units()) for run in runs))
    set_points = {tag.name for held in equipment.values() for tag in held.tags if tag.set_point}
    if not tags - set_points:
        raise Refusal("NO_COMMON_TAGS", "the runs share no measured tag; name lots of one process", "lots")
    recipe = recipe_for(tags, set_points)
    try:
        model = golden.train(product, recipe, [watch.recorded(run.lot, run.samples) for run in runs])
    except golden.TooFewRuns as error:
        raise Refusal("TOO_FEW_RUNS", str(error), "lots") from error
    return published(model)


def published(model: GoldenModel) -> events.GoldenModelTrained:
    """The model as its event carries it: fit to be read by tag, and whole for the detector."""
    mean, spread = model.golden().mean, model.published_spread()
    tags = [
        events.TagModel(tag=tag, limit=LIMIT, mean=mean[place].tolist(), spread=spread[place].tolist())
        for place, tag in enumerate(model.recipe.tags)
    ]
    return events.GoldenModelTrained(
        product=model.product,
        version=model.version,
        calibration_lots=model.calibration_lots,
        false_alarms=model.false_alarms,
        judged_runs=model.judged_runs,
        rate_low=model.rate_low,
        rate_high=model.rate_high,
        tags=tags,
        parameters=golden.encode(model),
    )


@lru_cache(maxsize=32)
def opened(parameters: bytes) -> GoldenModel:
    """The model in the bytes of its event; the same bytes give the same model."""
    return golden.decode(parameters)


def narrowest(trained: events.GoldenModelTrained | None, tag: str) -> float:
    """The smallest limit of a tag that keeps the model's false alarms bearable; 0 where none is known."""
    if trained is None or not trained.parameters:
        return 0.0
    model = opened(trained.parameters)
    return dict(zip(model.recipe.tags, model.narrowest, strict=True)).get(tag, 0.0)
