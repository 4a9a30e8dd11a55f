"""The models by name. A site and the coordinator find the same one by the `model` of the specification."""

from __future__ import annotations

from collections.abc import Mapping

from services.exchange.domain.stats.cox import Cox, CoxGrid
from services.exchange.domain.stats.describe import Counts, Histogram, Moments, Quantiles
from services.exchange.domain.stats.glm import Linear, Logistic, Poisson
from services.exchange.domain.stats.mantel_haenszel import MantelHaenszel
from services.exchange.domain.stats.protocol import Model, Spec
from services.exchange.domain.stats.survival import KaplanMeier, LogRank
from services.refusals import Malformed

_ALL: tuple[Model, ...] = (
    Counts(),
    Moments(),
    Histogram(),
    Quantiles(),
    Linear(),
    Logistic(),
    Poisson(),
    Cox(),
    CoxGrid(),
    KaplanMeier(),
    LogRank(),
    MantelHaenszel(),
)

MODELS: Mapping[str, Model] = {model.name: model for model in _ALL}


def model_of(spec: Spec) -> Model:
    """The model that a specification names. Raises Malformed where it names none."""
    name = spec.get("model")
    if not isinstance(name, str) or name not in MODELS:
        raise Malformed("NO_SUCH_MODEL", f"model is one of {', '.join(MODELS)}, not {name!r}", "spec.model")
    return MODELS[name]
