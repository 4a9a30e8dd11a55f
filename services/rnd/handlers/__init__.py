"""What rnd does with events and commands, on one page."""

from __future__ import annotations

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events, Rows
from services.rnd.handlers import catalogue, insights, lists, parameter_sets

#: Records what the safety loop taught.
INSIGHTS: Events = {production.InsightPublished: insights.on_insight_published}
#: Learns from plants.
LEARNING: Events = {production.ProcessLimitChanged: parameter_sets.on_process_limit_changed}
#: Keeps the rows that people page through, and the plants' keys.
LISTS: Rows = {
    events.ParameterSetDrafted: lists.DRAFTED,
    events.ParameterSetReviewed: lists.CHANGED,
    events.ParameterSetReleased: lists.CHANGED,
    events.ParameterSetSuperseded: lists.CHANGED,
    events.ParameterSetWithdrawn: lists.CHANGED,
    events.ReviewRequested: lists.CHANGED,
    production.PlantKeyPublished: lists.PUBLISHED,
}
COMMANDS: dict[str, Command] = {
    "RegisterTarget": catalogue.register_target,
    "RegisterMolecule": catalogue.register_molecule,
    "RegisterProduct": catalogue.register_product,
    "DraftParameterSet": parameter_sets.draft,
    "ReviewParameterSet": parameter_sets.review,
    "ReleaseParameterSet": parameter_sets.release,
    "WithdrawParameterSet": parameter_sets.withdraw,
}
