"""Golden-run models between the domain and the log: trained, published, opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import charting, golden, watch
from services.production.domain.charting import Charting, Charts
from services.production.domain.equipment import Equipment
from services.production.domain.golden import LIMIT, GoldenModel
from services.production.domain.recipes import recipe_for
from services.production.domain.samples import Run
from services.production.domain.spc.charts import Cusum, Ewma
from services.refusals import Malformed, Refusal


def train(
    product: str, runs: Sequence[Run], equipment: Mapping[str, Equipment], charts: Charts | None = None
) -> events.GoldenModelTrained:
    """Train on the recorded runs. Takes seconds: not for the event loop."""
    tags = set.intersection(*(set(run.samples.units()) for run in runs))
    set_points = {tag.name for held in equipment.values() for tag in held.tags if tag.set_point}
    if not tags - set_points:
        raise Refusal("NO_COMMON_TAGS", "the runs share no measured tag; name lots of one process", "lots")
    recipe = recipe_for(tags, set_points)
    try:
        recorded = [watch.recorded(run.lot, run.samples) for run in runs]
        model = golden.train(product, recipe, recorded, charts=charts)
    except golden.TooFewRuns as error:
        raise Refusal("TOO_FEW_RUNS", str(error), "lots") from error
    return published(model)


def charts_of(asked: events.ControlCharts) -> Charts:
    """The control charts that somebody asks for. Malformed names the setting that no chart can have."""
    charts = Charts(
        rules=tuple(dict.fromkeys(asked.rules)),
        cusum=Cusum(asked.cusum.k, asked.cusum.h) if asked.HasField("cusum") else None,
        ewma=Ewma(asked.ewma.weight, asked.ewma.width) if asked.HasField("ewma") else None,
        in_spreads=asked.in_spreads,
    )
    charting.check(charts)
    return charts


def check_price(trained: events.GoldenModelTrained, most: float) -> None:
    """Refusal where the model alarms on a greater share of good runs, with what each chart costs."""
    if not 0 <= most <= 1:
        raise Malformed("OUT_OF_RANGE", "a share is between 0 and 1", "most_false_alarms")
    if trained.false_alarms <= most * trained.judged_runs:
        return
    runs = trained.judged_runs
    prices = "".join(f"; {p.chart} by itself on {p.false_alarms}" for p in trained.chart_prices)
    said = f"the model would alarm on {trained.false_alarms} of {runs} good runs{prices}"
    raise Refusal("TOO_MANY_FALSE_ALARMS", f"{said}; choose other charts, or allow more", "most_false_alarms")


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
        charts=told_charts(model.charting.charts) if model.charting else None,
        chart_prices=told_prices(model.charting) if model.charting else (),
    )


def told_charts(charts: Charts) -> events.ControlCharts:
    told = events.ControlCharts(rules=charts.rules, in_spreads=charts.in_spreads)
    if charts.cusum:
        told.cusum.CopyFrom(events.CusumChart(k=charts.cusum.k, h=charts.cusum.h))
    if charts.ewma:
        told.ewma.CopyFrom(events.EwmaChart(weight=charts.ewma.weight, width=charts.ewma.width))
    return told


def told_prices(charting: Charting) -> list[events.ChartPrice]:
    return [
        events.ChartPrice(
            chart=price.chart, false_alarms=price.false_alarms, nominal_run_length=price.nominal
        )
        for price in charting.prices
    ]


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
