"""The table of limits, made from the constants and settings of the code that holds to them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from deploy.local.stamps import ROOT
from services.kit.settings import ServiceSettings

PAGE = ROOT / "docs" / "partners" / "limits.md"
BEGIN, END = "<!-- limits -->", "<!-- end limits -->"
_SETTINGS = "settings"


@dataclass(frozen=True)
class Limit:
    """A row: what is limited, where its numbers stand (`module:name` or `settings:name`), how it is told."""

    what: str
    numbers: tuple[str, ...]
    told: str
    beyond: str

    def values(self) -> tuple[Any, ...]:
        return tuple(map(value, self.numbers))

    @property
    def setting(self) -> str:
        """The operator's setting, where there is one."""
        return ", ".join(f"`{n.partition(':')[2]}`" for n in self.numbers if n.startswith(_SETTINGS))


def value(number: str) -> Any:
    """The number as the code has it."""
    module, _, name = number.partition(":")
    if module == _SETTINGS:
        return getattr(ServiceSettings(), name)
    if module == "services.kit.rpc.server.options":
        return dict(importlib.import_module("services.kit.rpc.server")._OPTIONS)[name] // 1000
    return getattr(importlib.import_module(module), name)


_TOO_LONG = "INVALID_ARGUMENT `TOO_LONG`"
_RANGE = "INVALID_ARGUMENT `OUT_OF_RANGE`"
_SHOWN = "the others are counted (`left_out`)"

#: In the order of the page: calls, subscriptions, what is recorded, what is read, research and studies.
LIMITS = (
    Limit(
        "a request",
        ("settings:max_request_bytes",),
        "{:,} bytes",
        "INVALID_ARGUMENT `REQUEST_TOO_LARGE`: send it in parts",
    ),
    Limit(
        "a message that is read at all",
        ("services.kit.rpc.server:_HARD_LIMIT_BYTES",),
        "{:,} bytes",
        "RESOURCE_EXHAUSTED without a reason: do not send it again",
    ),
    Limit("a deadline", (), "every call has one", "INVALID_ARGUMENT `DEADLINE_REQUIRED`"),
    Limit(
        "a command's wait for its decision",
        ("services.kit.runners.decider:_PATIENCE_SECONDS",),
        "{:g} seconds, or the deadline if that is earlier",
        "UNAVAILABLE: send the same again",
    ),
    Limit(
        "commands that wait at a process",
        ("services.kit.runners.decider:_MAX_WAITING",),
        "{:,}",
        "UNAVAILABLE: send the same again",
    ),
    Limit(
        "a wait for the log, when facts are recorded",
        ("services.kit.facts:_PUBLISH_SECONDS",),
        "{:g} seconds",
        "UNAVAILABLE: send the same again",
    ),
    Limit(
        "a wait for `min_position`",
        ("services.kit.positions:_WAIT_SECONDS",),
        "{:g} seconds",
        "UNAVAILABLE: ask again",
    ),
    Limit(
        "fields at fault that one refusal names",
        ("services.kit.rpc.errors:_MOST_OTHERS",),
        "{:,}, beside the first",
        "the others are counted",
    ),
    Limit(
        "pings of a connection (keepalive)",
        ("services.kit.rpc.server.options:grpc.http2.min_ping_interval_without_data_ms",),
        "one in {:g} seconds",
        "the connection is closed (`ENHANCE_YOUR_CALM`)",
    ),
    Limit(
        "subscriptions of one actor at a process",
        ("settings:most_subscriptions_of_actor",),
        "{:,}",
        "RESOURCE_EXHAUSTED `TOO_MANY_OF_ACTOR`",
    ),
    Limit(
        "subscriptions at a process",
        ("settings:most_subscriptions",),
        "{:,}",
        "RESOURCE_EXHAUSTED `TOO_MANY`",
    ),
    Limit(
        "an answer of a subscription",
        ("services.kit.watching:_BATCH", "services.kit.watching:_BATCH_BYTES"),
        "some {:,} changes, or {:,} bytes of records",
        "the others come in the next",
    ),
    Limit(
        "a silence of a subscription",
        ("services.kit.watching:HEARTBEAT_SECONDS",),
        "{:g} seconds",
        "an answer without changes comes",
    ),
    Limit(
        "a page of a list",
        ("services.kit.rpc.api:_DEFAULT_PAGE", "services.kit.rpc.api:_LARGEST_PAGE"),
        "{:,} items, {:,} at most",
        _RANGE,
    ),
    Limit(
        "a page of a lineage",
        ("services.traceability.lineages:_USUAL", "services.traceability.lineages:_MOST"),
        "{:,} events, {:,} at most",
        _RANGE,
    ),
    Limit(
        "points of a chart",
        (
            "services.production.api_wall:_POINTS",
            "services.production.api_wall:_FEWEST_POINTS",
            "services.production.api_wall:_MOST_POINTS",
        ),
        "{:,}; from {:,} to {:,}",
        _RANGE,
    ),
    Limit("things that a search finds", ("services.traceability.finder:_MOST",), "{:,}", _RANGE),
    Limit(
        "the text of a search",
        ("services.traceability.finder:_LONGEST_TEXT",),
        "{:,} characters",
        _TOO_LONG,
    ),
    Limit(
        "lots next to a lot, in an answer",
        ("services.traceability.neighbours:_USUAL", "services.traceability.neighbours:_MOST"),
        "{:,}; {:,} at most",
        _RANGE,
    ),
    Limit(
        "lots that a search in a genealogy finds",
        ("services.traceability.neighbours:_MOST_FOUND",),
        "{:,}",
        _RANGE,
    ),
    Limit(
        "the text of a search in a genealogy",
        ("services.traceability.neighbours:_LONGEST_TEXT",),
        "{:,} characters",
        _RANGE,
    ),
    Limit(
        "lots beside a lot in a dossier, each way",
        ("services.traceability.domain.dossier.bounds:LOTS",),
        "{:,}",
        _SHOWN,
    ),
    Limit(
        "places, sites; runs; decisions of a dossier",
        (
            "services.traceability.domain.dossier.bounds:PLACES",
            "services.traceability.domain.dossier.bounds:RUNS",
            "services.traceability.domain.dossier.bounds:DECISIONS",
        ),
        "{:,}; {:,}; {:,}",
        _SHOWN,
    ),
    Limit(
        "a text of a fact (order, record, source)",
        ("services.traceability.intake:_MAX_TEXT",),
        "{:,} printable characters",
        "refused record, `BAD_TEXT`",
    ),
    Limit(
        "a pseudonym, as a hospital records it",
        ("services.clinical.intake:_LONGEST_PSEUDONYM",),
        "{:,} printable characters",
        "refused record, `MALFORMED`",
    ),
    Limit(
        "a hospital's number of a report",
        ("services.clinical.intake:_LONGEST_NUMBER",),
        "{:,} characters",
        "refused record, `REQUIRED`",
    ),
    Limit(
        "a genotype",
        ("services.clinical.intake:_LONGEST_GENOTYPE",),
        "{:,} printable characters",
        "refused record, `MALFORMED`",
    ),
    Limit(
        "an answer in words",
        ("services.clinical.domain.answers:LONGEST_WORDS",),
        "{:,} characters",
        "refused record, `TOO_LONG`",
    ),
    Limit(
        "groups of a FHIR resource, one in the other",
        ("services.clinical.fhir:_DEEPEST",),
        "{:,}",
        "refused record, `TOO_DEEP`",
    ),
    Limit(
        "questions, tests or languages of a template",
        ("services.clinical.domain.template_rules:_MOST",),
        "{:,}",
        "INVALID_ARGUMENT `TOO_MANY`",
    ),
    Limit(
        "a text of a template; its kind of deviation",
        (
            "services.clinical.domain.template_rules:_LONGEST_TEXT",
            "services.clinical.domain.template_rules:_LONGEST_KIND",
        ),
        "{:,}; {:,} characters",
        _TOO_LONG,
    ),
    Limit(
        "a follow-up",
        ("services.clinical.domain.template_rules:LONGEST_HOURS",),
        "{:,} hours",
        _RANGE,
    ),
    Limit(
        "samples of a tag in a batch of readings",
        ("services.production.domain.readings:MAX_SAMPLES",),
        "{:,}",
        "refused record, `TOO_MANY`",
    ),
    Limit(
        "a reason, meaning or statement",
        ("services.kit.words:LONGEST",),
        "{:,} characters",
        _TOO_LONG,
    ),
    Limit(
        "the words of a health hazard evaluation",
        ("services.production.domain.hazard:_LONGEST_WORDS",),
        "{:,} characters",
        _TOO_LONG,
    ),
    Limit(
        "a name of a line or vessel",
        ("services.production.domain.plant:_LONGEST_NAME",),
        "{:,} characters",
        _TOO_LONG,
    ),
    Limit(
        "what one event holds",
        ("services.kit.bus.protocol:LARGEST_RECORD_BYTES",),
        "{:,} bytes",
        "INVALID_ARGUMENT `TOO_LARGE`",
    ),
    Limit(
        "a structure (SMILES)",
        ("services.rnd.domain.molecules.smiles:LONGEST",),
        "{:,} characters",
        _TOO_LONG,
    ),
    Limit(
        "the id of a parameter set",
        ("services.rnd.api_parameter_sets:_LONGEST_ID",),
        "{:,} printable characters",
        "INVALID_ARGUMENT `MALFORMED`",
    ),
    Limit(
        "virtual patients of a trial, over all its runs",
        ("services.rnd.domain.trials:MOST_PATIENTS",),
        "{:,}",
        _RANGE,
    ),
    Limit(
        "rounds of a study's job",
        ("services.exchange.domain.studies:MOST_ROUNDS",),
        "{:,}",
        _RANGE,
    ),
    Limit(
        "jobs of a study",
        ("services.exchange.domain.studies:MOST_JOBS",),
        "{:,}",
        "FAILED_PRECONDITION `TOO_MANY_JOBS`",
    ),
    Limit(
        "sites whose contributions are valued",
        ("services.exchange.domain.contribution.shapley:MOST_SITES",),
        "{:,}",
        "INVALID_ARGUMENT `TOO_MANY_SITES`",
    ),
    Limit(
        "patients that a site computes over",
        ("services.exchange.site.stored:MOST_MEMBERS",),
        "{:,}",
        "FAILED_PRECONDITION `COHORT_TOO_LARGE`",
    ),
    Limit(
        "days that a member of a cohort is observed",
        ("services.exchange.domain.definitions:_LONGEST_DAYS",),
        "{:,}",
        _RANGE,
    ),
    Limit(
        "cells of a table in a study",
        ("services.exchange.domain.stats.describe:_CELLS",),
        "{:,}",
        "INVALID_ARGUMENT `TOO_MANY_CELLS`",
    ),
    Limit(
        "what an owner may grant one analyst: queries; rounds; epsilon",
        (
            "services.exchange.domain.datasets:_MOST_QUERIES",
            "services.exchange.domain.datasets:_MOST_ROUNDS",
            "services.exchange.domain.datasets:_MOST_EPSILON",
        ),
        "{:,}; {:,}; {:,g}",
        _RANGE,
    ),
)


def table() -> str:
    """The limits as a table, with the marks that begin and end it on the page."""
    lines = [BEGIN, "| what | limit | what happens beyond it | setting |", "|---|---|---|---|"]
    for one in LIMITS:
        told = one.told.format(*one.values())
        lines.append(f"| {one.what} | {told} | {one.beyond} | {one.setting} |".replace("|  |", "| |"))
    return "\n".join([*lines, END])


def in_page(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{table()}{after}"
