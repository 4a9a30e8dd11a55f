"""Checks resources against the schemas of kubernetes-validate, strictly.

Its own function makes a validator for each resource, which takes long; here one is made for each kind.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate import utils
from referencing import Registry, Resource

from deploy.charts.render import Document


class Unfit(Exception):
    """A resource that Kubernetes would refuse, or does not know."""


@cache
def _registry(version: str) -> Any:
    contents = utils.schema_contents(
        f"kubernetes-json-schema/v{version}-local-strict/_definitions.json", version
    )
    definitions: Any = Resource.from_contents(contents)
    return (definitions @ Registry()).crawl()


@cache
def _validator(kind: str, api: str, version: str) -> Any:
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    place = f"kubernetes-json-schema/v{version}-local-strict/{kind.lower()}-{name}.json"
    try:
        schema = utils.schema_contents(place, version)
    except FileNotFoundError:
        raise Unfit(f"Kubernetes {version} knows no {kind} of {api}") from None
    return jsonschema.validators.Draft202012Validator(schema, registry=_registry(version))


def check(document: Document, version: str) -> None:
    """Unfit says what Kubernetes of this version (1.34.0) would refuse."""
    validator = _validator(document["kind"], document["apiVersion"], version)
    if (found := jsonschema.exceptions.best_match(validator.iter_errors(document))) is not None:
        place = "/".join(map(str, found.absolute_path))
        raise Unfit(f"{document['kind']} {document['metadata'].get('name')}: {place}: {found.message}")
