"""The table of reasons that a service may answer with, read from the code that refuses.

A refusal is written `Invalid("REASON", "the rule and the next step", "field")`, or as an error of a
domain that becomes one. So the table is whole by construction: what the code can say is in it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.local.stamps import ROOT

PAGE = ROOT / "docs" / "partners" / "errors.md"
BEGIN, END = "<!-- reasons -->", "<!-- end -->"
#: Services that partners call, and the kit that answers for each of them.
SERVICES = ("kit", "traceability", "production", "clinical", "exchange", "rnd", "alerting", "loops")
#: Status by the class that is raised; errors of a domain become these at its border.
CODES = {
    "Invalid": "INVALID_ARGUMENT",
    "Malformed": "INVALID_ARGUMENT",
    "Unknown": "NOT_FOUND",
    "Absent": "NOT_FOUND",
    "Rejected": "FAILED_PRECONDITION",
    "Refusal": "FAILED_PRECONDITION",
    "Refused": "FAILED_PRECONDITION",
    "Unfit": "FAILED_PRECONDITION",
    "Breach": "FAILED_PRECONDITION",
    "Exhausted": "RESOURCE_EXHAUSTED",
    "OutOfRange": "OUT_OF_RANGE",
    "Unserved": "UNIMPLEMENTED",
}
#: Where a reason stands among what is given to a class, if not first; its sentence follows it.
_PLACES = {"Breach": 1}
AGAIN = {
    "INVALID_ARGUMENT": "no: mend it",
    "NOT_FOUND": "when it may be there; after a write of yours, with `min_position`",
    "FAILED_PRECONDITION": "no: the state has to change first",
    "RESOURCE_EXHAUSTED": "yes, after a while",
    "OUT_OF_RANGE": "no: begin anew",
    "UNIMPLEMENTED": "no: another version has it",
}
#: What those who start a service are told, and no caller.
_OF_OPERATORS = {
    *("startup", "settings.py", "app.py", "hpke.py", "sealing.py", "presence.py", "migrate.py", "evidence"),
}
NOT_ANSWERED = {"BAD_SETTING", "PORT_IN_USE"}
_REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
#: What is said in many sentences, in one.
_MEANINGS = {
    "REQUIRED": "The field must be given.",
    "OUT_OF_RANGE": "The value is outside what the field may hold; the answer says the limits.",
    "NOT_FINITE": "A number is NaN or infinite.",
    "TOO_LONG": "A text, or a list, is longer than its limit; the answer says the limit.",
    "MALFORMED": "The field is not of the form that the answer describes.",
    "UNKNOWN_CODE": "The code is not one of those that the field takes.",
    "BAD_TEXT": "A text is longer than 256 characters, or holds a line break, a bar or the like.",
    "LENGTH_MISMATCH": "Two lists that go together differ in length.",
    "LOW_ABOVE_HIGH": "The lower end of a range lies above its upper end.",
    "CONTRADICTS": "Two fields contradict each other; the answer says which.",
    "OOS_CONFIRMED": "A result out of specification was found to stand; the lot can only be rejected.",
    "OOS_OPEN": "An investigation of a result out of specification is open; close it first.",
    "OUTDATED_VERSION": "A later version of the parameter set is there; look at that with GetTransfer.",
    "RANGE_NARROWED": "The line's proven range lost the set-point; ask research for a version that fits.",
    "SAME_SIGNER": "The same person signed the other part; another person signs this one.",
    "TAGS_MISSING": "The lot's readings lack tags that the twin needs; record them, or look at another lot.",
    "TOO_FEW_RUNS": "A model learns from more runs than were named.",
    "TOO_LARGE": "What would be published is larger than the log takes; say it in parts.",
    "TOO_MANY": "A list is longer than its limit; send parts.",
    "RESOURCE_EXHAUSTED TOO_MANY": "The service has as many subscriptions as it takes; try again later.",
    "TOO_MANY_FALSE_ALARMS": "The charts would alarm too often; choose others, or allow more.",
    "UNKNOWN_LOT": "No record names the lot; the plant that makes it starts it with StartLot.",
    "UNKNOWN_SITE": "The site is not registered; the answer names those that are.",
    "WRONG_UNIT": "The unit is another one than that of the tag, test or question, and does not convert.",
    "CONFLICT": "One id tells of two different things; give each an id of its own.",
    "DUPLICATE": "Something stands there twice; give each once, or an id of its own.",
    "NO_SUCH_CALL": "The platform does not know the call; the answer says which version runs and what to do.",
    "NO_HASH": "The hash of a cohort, or of what was agreed, has 32 bytes.",
    "NOT_FITTED": "The model does not fit the data of all sites; the answer says why.",
    "OUT_OF_ORDER": "What is asked for comes before its turn; the answer says what comes first.",
    "UNKNOWN": "A choice is none of those that the field takes; the answer names them.",
    "UNKNOWN_STUDY": "No such study; list them with ListStudies.",
    "UNSTORABLE": "What would be kept of it is larger than the database takes; say it in parts.",
    "WRONG_LENGTH": "Sites sent vectors of unequal length; they fit other models.",
    "WRONG_PRODUCT": "It is of another product; the answer says which, and what to name instead.",
    "ILLEGAL_TRANSITION": "The thing is in a state from which this step does not lead.",
}


@dataclass(frozen=True, order=True)
class Reason:
    """A reason as one status: who answers with it, and what it says."""

    reason: str
    code: str
    services: tuple[str, ...]
    meaning: str


@cache
def reasons() -> list[Reason]:
    """Every reason that a call to one of the services may be refused with, by name."""
    said: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for service in SERVICES:
        for reason, code, sentence in _of(service):
            said[reason, code][service].append(sentence)
    return sorted(
        Reason(reason, code, tuple(by), _meaning(reason, code, [one for all in by.values() for one in all]))
        for (reason, code), by in said.items()
    )


def _of(service: str) -> Iterator[tuple[str, str, str]]:
    files = [path for path in sorted((ROOT / "services" / service).rglob("*.py")) if not of_operators(path)]
    trees = [ast.parse(path.read_text()) for path in files]
    names = {name: value for tree in trees for name, value in _constants(tree)}
    for tree in trees:
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _raised(function, names)


def _raised(function: ast.AST, names: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """What one function refuses; a sentence may stand in a variable just before."""
    said = dict(names)
    for node in sorted(ast.walk(function), key=lambda node: getattr(node, "end_lineno", 0) or 0):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            said[node.targets[0].id] = _text(node.value, said)
        if isinstance(node, ast.Call) and _name(node.func) in CODES:
            given = node.args[_PLACES.get(_name(node.func), 0) :]
            reason = _text(given[0], said) if given else ""
            if _REASON.fullmatch(reason) and reason not in NOT_ANSWERED:
                sentence = _text(given[1], said) if len(given) > 1 else ""
                yield reason, CODES[_name(node.func)], sentence


def of_operators(path: Path) -> bool:
    """Is it code that tells those who start a service, and no caller?"""
    return any(part in _OF_OPERATORS for part in path.parts)


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    yield target.id, node.value.value


def _name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _text(node: ast.expr, names: dict[str, str]) -> str:
    """What an expression says; an ellipsis stands for what only a call knows."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return names.get(name, "")
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, names) or "…" for part in parts)
        case _:
            return ""


def _meaning(reason: str, code: str, sentences: list[str]) -> str:
    told = _MEANINGS.get(f"{code} {reason}") or _MEANINGS.get(reason) or max(sentences, key=len)
    if not told:
        raise ValueError(f"{reason} has no sentence in the code: give it one in deploy/partners/errors.py")
    text = told[0].upper() + told[1:]
    return text.replace("|", r"\|").replace("\n", " ") + ("" if text.endswith((".", "…")) else ".")


def table(found: list[Reason]) -> str:
    """The reasons as a table, with the marks that begin and end it on the page."""
    lines = [BEGIN, "| reason | status | answered by | meaning | again? |", "|---|---|---|---|---|"]
    for one in found:
        by = "every service" if "kit" in one.services else ", ".join(one.services)
        lines.append(f"| `{one.reason}` | {one.code} | {by} | {one.meaning} | {AGAIN[one.code]} |")
    return "\n".join([*lines, END])


def in_page(page: str, made: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{made}{after}"
