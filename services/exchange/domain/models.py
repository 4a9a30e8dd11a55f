"""The models of statistics by name. Each is loaded when it is first asked for: scipy is heavy, and most
processes are asked for one model or none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from services.exchange.domain.disclosure import accounting
from services.exchange.domain.stats.protocol import Model, Spec, canonical
from services.exchange.domain.stats.reading import PUBLIC
from services.refusals import Malformed

#: Protection that a study of patients may strengthen and never weaken: at least, and at most.
_AT_LEAST = {"contributing_at_least": 3, "sites_at_least": 2, "cells_at_least": 3}
_AT_MOST = {"parameters_per_row": 0.33}


@cache
def _all() -> Mapping[str, Model]:
    found: Mapping[str, Model] = import_module("services.exchange.domain.stats.models").MODELS
    return found


def load(epsilon: float = 0.0, delta: float = 0.0) -> None:
    """Load the models, and find the noise of a study that asks for some. Each takes a moment: done beside an
    event loop, before they are asked for in it."""
    _all()
    if epsilon:
        accounting.calibrated(epsilon, delta)


def model(name: str) -> Model:
    """The model of this name. Raises Malformed where there is none."""
    if name not in _all():
        said = f"no model {name!r} is known; choose one of {', '.join(_all())}"
        raise Malformed("UNKNOWN_MODEL", said, "model")
    return _all()[name]


def specification(
    name: str, text: str, *, public: bool, epsilon: float = 0.0, delta: float = 0.0
) -> tuple[Spec, str]:
    """The canonical specification and its text, from what an analyst wrote.

    A study's epsilon and delta become the `noise` of its specification, so that
    the hash of what is computed binds them. Raises Malformed for what is no JSON
    or breaks a rule of the model, where it protects patients less than the
    platform does, unless the data are `public`, and where noise is asked of a
    model that takes none.
    """
    try:
        said: Any = json.loads(text)
    except ValueError as error:
        raise Malformed("NOT_JSON", f"the specification is no JSON ({error})", "specification") from error
    if not isinstance(said, dict):
        raise Malformed("NOT_A_MAPPING", "the specification is a JSON object", "specification")
    noise = _noise(name, said.pop("noise", None), epsilon, delta)
    found = model(name).start({"model": name, **(PUBLIC if public else {}), **said, **noise}).spec
    if not public:
        _check_protection(found)
    return found, canonical(dict(found))


def _noise(name: str, written: Any, epsilon: float, delta: float) -> dict[str, Any]:
    """The noise of a specification: that of the study."""
    asked = {"epsilon": float(epsilon), "delta": float(delta)} if epsilon or delta else None
    if written is not None and written != asked:
        said = "the noise is asked for by the epsilon and delta of the study; leave it out here"
        raise Malformed("NOISE_DIFFERS", said, "specification.noise")
    if asked is None:
        return {}
    if not model(name).takes_noise:
        offered = ", ".join(one.name for one in _all().values() if one.takes_noise)
        said = (
            f"noise for differential privacy is offered for {offered}, which take one round of sums with a "
            f"bounded part of each patient; {name} is computed exactly or not at all: leave epsilon and "
            "delta out, or ask for one of those"
        )
        raise Malformed("NOT_OFFERED", said, "epsilon")
    return {"noise": asked}


def _check_protection(spec: Spec) -> None:
    lax = [name for name, least in _AT_LEAST.items() if float(spec.get(name, least)) < least]
    lax += [name for name, most in _AT_MOST.items() if float(spec.get(name, most)) > most]
    if lax:
        said = f"{', '.join(lax)} protects patients less than the platform does; leave it out"
        raise Malformed("TOO_LAX", said, f"specification.{lax[0]}")
