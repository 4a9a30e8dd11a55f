"""What production does with events and commands, on one page."""

from __future__ import annotations

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events, Rows
from services.production.handlers import (
    capas,
    commands,
    detector,
    deviations,
    hazards,
    history,
    laboratory,
    lists,
    quality,
    transfers,
)

#: Judges readings online against the golden run of their product.
DETECTOR: Events = {
    production.ReadingsRecorded: detector.on_readings_recorded,
    production.LotStarted: detector.on_lot_started,
    production.GoldenModelTrained: detector.on_golden_model_trained,
    production.ProcessLimitChanged: detector.on_process_limit_changed,
}
#: Answers the safety loop: holds lots, gathers evidence, proposes actions.
QUALITY: Events = {
    loops.SafetyRunOpened: quality.on_safety_run_opened,
    traceability.LotImplicated: quality.on_lot_implicated,
    traceability.ExposureAnnounced: quality.on_exposure_announced,
    traceability.ExposureSealed: quality.on_exposure_sealed,
    clinical.FollowUpSummarised: quality.on_follow_up_summarised,
    clinical.EvidenceReleased: quality.on_evidence_released,
    clinical.ResponsesSummarised: quality.on_responses_summarised,
}
#: Judges laboratory results.
LABORATORY: Events = {production.TestResultRecorded: laboratory.on_test_result_recorded}
#: Takes releases to lines and tells their outcome; acts on the run of the loop, never on the release.
TRANSFERS: Events = {
    rnd.ParameterSetReleased: transfers.on_parameter_set_released,
    rnd.ParameterSetSuperseded: transfers.on_parameter_set_superseded,
    rnd.ParameterSetWithdrawn: transfers.on_parameter_set_withdrawn,
    rnd.PredictionCalibrated: transfers.on_prediction_calibrated,
    loops.TransferRunOpened: transfers.on_transfer_run_opened,
    loops.LoopClosed: transfers.on_loop_closed,
    production.TestResultRecorded: transfers.on_test_result_recorded,
    production.InvestigationClosed: transfers.on_investigation_closed,
}
#: Keeps the recorded runs.
HISTORY: Rows = {production.ReadingsRecorded: history.RECORDED}
#: Keeps the rows that people page through.
LISTS: Rows = {
    production.DeviationDetected: lists.DETECTED,
    production.DeviationUpdated: lists.CHANGED,
    production.DeviationInvestigationStarted: lists.CHANGED,
    production.DeviationConfirmed: lists.CHANGED,
    production.DeviationRejected: lists.CHANGED,
    production.DeviationClassified: lists.CHANGED,
    production.DeviationCapaRequired: lists.CHANGED,
    production.DeviationCapaRefused: lists.CHANGED,
    production.DeviationClosed: lists.CHANGED,
    production.TestResultRecorded: lists.TESTED,
    production.LaboratoryInvestigationOpened: lists.INVESTIGATED,
    production.InvestigationClosed: lists.EXPLAINED,
    production.TrendReviewOpened: lists.REVIEWED,
    production.CapaProposed: lists.PROPOSED,
    production.CapaApproved: lists.MOVED,
    production.CapaRefused: lists.MOVED,
    production.ChangeValidated: lists.MOVED,
    production.ChangeFilingAssessed: lists.MOVED,
    production.ProcessLimitChanged: lists.MOVED,
    production.CapaEffectivenessChecked: lists.MOVED,
    production.LotHeld: lists.DECIDED,
    production.LotReleased: lists.DECIDED,
    production.LotRejected: lists.DECIDED,
    production.TwinAdapted: lists.TRANSFERRED,
    production.TransferRefused: lists.TRANSFERRED,
    production.OptimisationProposed: lists.TRANSFERRED,
    production.OptimisationDecided: lists.TRANSFERRED,
    production.RecipeValidated: lists.TRANSFERRED,
    production.RecipeFilingAssessed: lists.TRANSFERRED,
    production.RecipeEffective: lists.TRANSFERRED,
    production.TransferOutcomeRecorded: lists.TRANSFERRED,
    production.TransferOutcomeWithheld: lists.TRANSFERRED,
    production.TransferEnded: lists.TRANSFERRED,
    production.LineRegistered: lists.REGISTERED,
}
COMMANDS: dict[str, Command] = {
    "RegisterEquipment": commands.register_equipment,
    "StartLot": commands.start_lot,
    "CompleteLot": commands.complete_lot,
    "HoldLot": commands.hold_lot,
    "ReleaseLot": commands.release_lot,
    "RejectLot": commands.reject_lot,
    "ConfirmDeviation": deviations.confirm_deviation,
    "RejectDeviation": deviations.reject_deviation,
    "StartInvestigation": deviations.start_investigation,
    "ClassifyDeviation": deviations.classify_deviation,
    "CloseDeviation": deviations.close_deviation,
    "SetSeverityRules": deviations.set_severity_rules,
    "CloseInvestigation": commands.close_investigation,
    "TrainModel": commands.train_model,
    "ApproveCapa": capas.approve_capa,
    "RefuseCapa": capas.refuse_capa,
    "RecordValidation": capas.record_validation,
    "RecordFilingAssessment": capas.record_filing_assessment,
    "RecordEffectivenessCheck": capas.record_effectiveness_check,
    "EvaluateHazard": hazards.evaluate_hazard,
    "RegisterLine": transfers.register_line,
    "DecideTransfer": transfers.decide_transfer,
    "RecordRecipeValidation": transfers.record_recipe_validation,
    "RecordRecipeFiling": transfers.record_recipe_filing,
    # What the steps found; nobody asks for these.
    "AdaptTransfer": transfers.adapt_transfer,
    "RefuseTransfer": transfers.refuse_transfer,
    "ProposeOptimisation": transfers.propose_optimisation,
    "ProfileLot": transfers.profile_lot,
}
