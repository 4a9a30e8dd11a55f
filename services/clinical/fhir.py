"""FHIR R4 resources as answers and laboratory results: the few fields that a follow-up needs.

https://hl7.org/fhir/R4/questionnaireresponse.html and .../observation.html. Of
a QuestionnaireResponse: `id`, `status`, `basedOn` (CarePlan/<plan>), `subject`
(Patient/<pseudonym>), `authored`, and of each item `linkId` (the question) and
one `answer`; groups of items are opened. Of an Observation: `id`, `status`,
`basedOn` (left out for a result of the routine), `subject`, `effectiveDateTime`,
a LOINC `code` and `valueQuantity` with a UCUM unit. What else a resource says is
not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.kit.errors import Invalid

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
_DONE = ("completed", "amended")
_FINAL = ("final", "amended", "corrected")
_DEEPEST = 8
Json = Mapping[str, Any]


@dataclass(frozen=True)
class FhirResponse:
    """A QuestionnaireResponse. `paths` says where in the resource each answer stood, `units` the
    UCUM code that an answer was given in."""

    request: api.RecordResponseRequest
    paths: list[str] = field(default_factory=list)
    units: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FhirLab:
    """An Observation; `number` is its id at its source."""

    lab: clinical.LabRecorded
    result: clinical.LabResult
    number: str


def parsed(text: str) -> FhirResponse | FhirLab:
    """The resource; Invalid with the path of the element that breaks a rule."""
    try:
        resource = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("MALFORMED", f"this is no JSON ({error}); send one FHIR R4 resource", "") from None
    if not isinstance(resource, dict):
        raise Invalid("MALFORMED", "a FHIR resource is a JSON object; send one", "")
    kind = resource.get("resourceType")
    if kind == "QuestionnaireResponse":
        return _response(resource)
    if kind == "Observation":
        return _observation(resource)
    said = f"{kind!r} is not read here; send a QuestionnaireResponse or an Observation"
    raise Invalid("UNKNOWN_RESOURCE", said, "resourceType")


def check_units(found: FhirResponse, template: clinical.FollowUpTemplate) -> None:
    """Invalid where a number was not given in the unit of its question."""
    units = {question.id: question.unit for question in template.questions}
    for n, unit in found.units.items():
        wanted = units.get(found.request.answers[n].question, unit)
        if unit != wanted:
            said = f"the question is answered in {wanted!r} (UCUM), and this is in {unit!r}; convert it"
            raise Invalid("WRONG_UNIT", said, f"{found.paths[n]}.valueQuantity.code")


# -- a QuestionnaireResponse ---------------------------------------------------------


def _response(resource: Json) -> FhirResponse:
    _check_status(resource, _DONE)
    request = api.RecordResponseRequest(
        request_id=f"fhir/{_text(resource, 'id', 'id')}",
        plan=_reference(_first(resource, "basedOn"), "CarePlan", "basedOn[0]"),
        pseudonym=_reference(resource.get("subject"), "Patient", "subject"),
        at=_moment(resource, "authored"),
    )
    found = FhirResponse(request)
    for path, item in _items(resource, "item", 0):
        _add(found, path, item)
    return found


def _items(parent: Json, path: str, depth: int) -> Iterator[tuple[str, Json]]:
    """The items that are answered, with their paths; groups are opened."""
    if depth > _DEEPEST:
        raise Invalid("TOO_DEEP", f"items lie at most {_DEEPEST} groups deep; flatten them", path)
    for n, item in enumerate(_list(parent, "item", path)):
        here = f"{path}[{n}]"
        if not isinstance(item, dict):
            raise Invalid("MALFORMED", "an item is an object with a linkId", here)
        if "answer" in item:
            yield here, item
        yield from _items(item, f"{here}.item", depth + 1)


def _add(found: FhirResponse, path: str, item: Json) -> None:
    answers = _list(item, "answer", f"{path}.answer")
    if len(answers) != 1 or not isinstance(answers[0], dict):
        raise Invalid(
            "MALFORMED", "a question has one answer; send one, or leave the list out", f"{path}.answer"
        )
    where = f"{path}.answer[0]"
    answer, unit = _answer(answers[0], where)
    answer.question = _text(item, "linkId", f"{path}.linkId")
    if unit:
        found.units[len(found.paths)] = unit
    found.paths.append(where)
    found.request.answers.append(answer)


def _answer(answer: Json, path: str) -> tuple[clinical.QuestionAnswer, str]:
    """The answer and, of a quantity, its unit."""
    given = [name for name in answer if name.startswith("value")]
    if len(given) != 1:
        raise Invalid("MALFORMED", "an answer has one value[x]; send one", path)
    (name,) = given
    value, here = answer[name], f"{path}.{name}"
    if name == "valueBoolean" and isinstance(value, bool):
        return clinical.QuestionAnswer(yes=value), ""
    if name in ("valueDecimal", "valueInteger"):
        return clinical.QuestionAnswer(number=_number(value, here)), ""
    if name == "valueQuantity" and isinstance(value, dict):
        quantity = _quantity(value, here)
        return clinical.QuestionAnswer(number=quantity.value), quantity.unit
    if name == "valueCoding" and isinstance(value, dict):
        return clinical.QuestionAnswer(choice=_text(value, "code", f"{here}.code")), ""
    if name == "valueString" and isinstance(value, str):
        return clinical.QuestionAnswer(words=value), ""
    said = "answer with valueBoolean, valueInteger, valueDecimal, valueQuantity, valueCoding or valueString"
    raise Invalid("WRONG_KIND", said, here)


# -- an Observation ---------------------------------------------------------------------


def _observation(resource: Json) -> FhirLab:
    _check_status(resource, _FINAL)
    lab = clinical.LabRecorded(
        plan=_plan(resource),
        pseudonym=_reference(resource.get("subject"), "Patient", "subject"),
        code=_loinc(resource),
        at=_moment(resource, "effectiveDateTime"),
    )
    value = resource.get("valueQuantity")
    if not isinstance(value, dict):
        raise Invalid("REQUIRED", "give the result as a quantity with a UCUM unit", "valueQuantity")
    result = clinical.LabResult(value=_quantity(value, "valueQuantity"))
    return FhirLab(lab, result, _text(resource, "id", "id"))


def _plan(resource: Json) -> str:
    """The plan that asked for the result; empty for one of the hospital's routine."""
    if "basedOn" not in resource:
        return ""
    return _reference(_first(resource, "basedOn"), "CarePlan", "basedOn[0]")


def _loinc(resource: Json) -> str:
    code = resource.get("code")
    codings = _list(code, "coding", "code.coding") if isinstance(code, dict) else []
    for n, coding in enumerate(codings):
        if isinstance(coding, dict) and coding.get("system") == LOINC:
            return _text(coding, "code", f"code.coding[{n}].code")
    raise Invalid("REQUIRED", f"name the test by a coding of the system {LOINC}", "code.coding")


# -- elements ------------------------------------------------------------------------------


def _check_status(resource: Json, wanted: tuple[str, ...]) -> None:
    if resource.get("status") not in wanted:
        said = f"only what is {' or '.join(wanted)} is recorded; send it when it is"
        raise Invalid("NOT_FINAL", said, "status")


def _text(parent: Json, name: str, path: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid("REQUIRED", "a text is needed here", path)
    return value


def _list(parent: Json, name: str, path: str) -> list[Any]:
    value = parent.get(name, [])
    if not isinstance(value, list):
        raise Invalid("MALFORMED", "this element is a list", path)
    return value


def _first(parent: Json, name: str) -> Any:
    return next(iter(_list(parent, name, name)), None)


def _reference(reference: Any, kind: str, path: str) -> str:
    """The id that a literal reference names."""
    literal = reference.get("reference") if isinstance(reference, dict) else None
    start = f"{kind}/"
    if not isinstance(literal, str) or not literal.startswith(start) or literal == start:
        raise Invalid("REQUIRED", f"refer to it as '{start}<id>'", f"{path}.reference")
    return literal.removeprefix(start)


def _moment(parent: Json, name: str) -> common.Moment:
    """A FHIR dateTime with time and offset: a day alone does not say which answer is the later."""
    try:
        then = datetime.fromisoformat(_text(parent, name, name))
    except ValueError:
        then = None
    offset = then.utcoffset() if then else None
    if then is None or offset is None:
        said = "write a dateTime with time and offset, for example 2026-03-01T08:30:00+08:00"
        raise Invalid("MALFORMED", said, name)
    moment = common.Moment(offset_minutes=int(offset.total_seconds() // 60))
    moment.at.FromDatetime(then)
    return moment


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Invalid("MALFORMED", "write a finite number", path)
    return float(value)


def _quantity(value: Json, path: str) -> common.Quantity:
    if value.get("system") != UCUM:
        raise Invalid("UNKNOWN_SYSTEM", f"give the unit by the system {UCUM}", f"{path}.system")
    if "comparator" in value:
        said = "a result below or above a limit is no number; leave it to the hospital's record"
        raise Invalid("UNSUPPORTED", said, f"{path}.comparator")
    return common.Quantity(
        value=_number(value.get("value"), f"{path}.value"), unit=_text(value, "code", f"{path}.code")
    )
