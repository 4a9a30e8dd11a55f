"""What rnd does with events and commands, on one page."""

from __future__ import annotations

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events, Rows
from services.rnd.handlers import catalogue, insights, learning, lists, parameter_sets, trials

#: Records what the safety loop taught.
INSIGHTS: Events = {production.InsightPublished: insights.on_insight_published}
#: Learns from plants, studies and virtual trials.
LEARNING: Events = {
    production.ProcessLimitChanged: parameter_sets.on_process_limit_changed,
    production.TransferOutcomeRecorded: learning.on_transfer_outcome_recorded,
    exchange.InsightPublished: learning.on_insight_published,
    events.TrialCompleted: learning.on_trial_completed,
}
#: Keeps the rows that people page through, and the plants' keys.
LISTS: Rows = {
    events.ParameterSetDrafted: lists.DRAFTED,
    events.ParameterSetReviewed: lists.CHANGED,
    events.ParameterSetReleased: lists.CHANGED,
    events.ParameterSetSuperseded: lists.CHANGED,
    events.ParameterSetWithdrawn: lists.CHANGED,
    events.ReviewRequested: lists.CHANGED,
    events.TrialCompleted: lists.COMPLETED,
    events.HypothesisUpdated: lists.UPDATED,
    events.CandidatesRanked: lists.RANKED,
    production.PlantKeyPublished: lists.PUBLISHED,
}
#: Keeps what became of findings.
FINDINGS: Rows = {
    exchange.InsightPublished: lists.FOUND,
    events.HypothesisUpdated: lists.DECIDED,
    events.InsightDeclined: lists.DECIDED,
}
COMMANDS: dict[str, Command] = {
    "RegisterTarget": catalogue.register_target,
    "RegisterMolecule": catalogue.register_molecule,
    "RegisterProduct": catalogue.register_product,
    "RunTrial": trials.complete,
    "DraftParameterSet": parameter_sets.draft,
    "ReviewParameterSet": parameter_sets.review,
    "ReleaseParameterSet": parameter_sets.release,
    "WithdrawParameterSet": parameter_sets.withdraw,
    "TakeUpInsight": learning.take_up_insight,
    "DeclineInsight": learning.decline_insight,
}
