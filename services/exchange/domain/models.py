"""The models of statistics by name. Each is loaded when it is first asked for: scipy is heavy, and most
processes are asked for one model or none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from services.exchange.domain.errors import Malformed
from services.exchange.domain.stats.protocol import Model, Spec, canonical
from services.exchange.domain.stats.reading import PUBLIC

#: Protection that a study of patients may strengthen and never weaken: at least, and at most.
_AT_LEAST = {"contributing_at_least": 3, "sites_at_least": 2, "cells_at_least": 3}
_AT_MOST = {"parameters_per_row": 0.33}


@cache
def _all() -> Mapping[str, Model]:
    found: Mapping[str, Model] = import_module("services.exchange.domain.stats.models").MODELS
    return found


def model(name: str) -> Model:
    """The model of this name. Raises Malformed where there is none."""
    if name not in _all():
        said = f"no model {name!r} is known; choose one of {', '.join(_all())}"
        raise Malformed("UNKNOWN_MODEL", said, "model")
    return _all()[name]


def specification(name: str, text: str, *, public: bool) -> tuple[Spec, str]:
    """The canonical specification and its text, from what an analyst wrote.

    Raises Malformed for what is no JSON or breaks a rule of the model, and where
    it protects patients less than the platform does, unless the data are `public`.
    """
    try:
        said: Any = json.loads(text)
    except ValueError as error:
        raise Malformed("NOT_JSON", f"the specification is no JSON ({error})", "specification") from error
    if not isinstance(said, dict):
        raise Malformed("NOT_A_MAPPING", "the specification is a JSON object", "specification")
    found = model(name).start({"model": name, **(PUBLIC if public else {}), **said}).spec
    if not public:
        _check_protection(found)
    return found, canonical(dict(found))


def _check_protection(spec: Spec) -> None:
    lax = [name for name, least in _AT_LEAST.items() if float(spec.get(name, least)) < least]
    lax += [name for name, most in _AT_MOST.items() if float(spec.get(name, most)) > most]
    if lax:
        said = f"{', '.join(lax)} protects patients less than the platform does; leave it out"
        raise Malformed("TOO_LAX", said, f"specification.{lax[0]}")
