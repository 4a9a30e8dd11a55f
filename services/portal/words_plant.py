"""Words for what a plant judges, and for the names that a lot's dossier gives; see `words`."""

from __future__ import annotations

PLANT = {
    "SEVERITY_MINOR": "Minor",
    "SEVERITY_MAJOR": "Major",
    "SEVERITY_CRITICAL": "Critical",
    "EFFECTIVENESS_OUTCOME_EFFECTIVE": "It was effective",
    "EFFECTIVENESS_OUTCOME_NOT_EFFECTIVE": "Not effective",
}
#: What a dossier calls a step or a decision.
PLANT |= {
    "STARTED": "Process run started",
    "COMPLETED": "Process run ended",
    "HELD": "Held",
    "RELEASED": "Released",
    "REJECTED": "Rejected",
    "IMPLICATION_HELD": "Held for a run",
    "IMPLICATION_REJECTED": "Not held: rejected before",
    "DEVIATION_CONFIRMED": "Deviation confirmed",
    "DEVIATION_REJECTED": "Deviation rejected as a false alarm",
    "DEVIATION_UNDER_INVESTIGATION": "Investigation started",
    "DEVIATION_CAPA_REQUIRED": "CAPA required",
    "DEVIATION_CLOSED": "Deviation closed",
    "DEVIATION_CLASSIFIED_MINOR": "Classified as minor",
    "DEVIATION_CLASSIFIED_MAJOR": "Classified as major",
    "DEVIATION_CLASSIFIED_CRITICAL": "Classified as critical",
    "OOS_CONFIRMED": "Result out of specification confirmed",
    "OOS_LABORATORY_ERROR": "Result void: laboratory error",
    "HAZARD_EVALUATED": "Health hazard evaluated",
    "CAPA_APPROVED": "CAPA approved",
    "CAPA_REFUSED": "CAPA refused",
    "CHANGE_VALIDATED": "Change validated",
    "CHANGE_FILING_NOT_REPORTED": "Filing: not reported",
    "CHANGE_FILING_NOTIFICATION": "Filing: notification",
    "CHANGE_FILING_PRIOR_APPROVAL": "Filing: prior approval",
    "CAPA_EFFECTIVE": "CAPA found effective",
    "CAPA_NOT_EFFECTIVE": "CAPA found not effective",
    "UNATTRIBUTED_EXPLAINED": "Dispense without a patient explained",
    "RUN_CANCELLED": "Run cancelled",
    "RUN_SUPERSEDED": "Run superseded",
}
#: What a dossier finds of results, and says of runs.
PLANT |= {
    "out_of_specification": "Out of specification",
    "out_of_trend": "Out of trend",
    "result.not_judged": "Not judged: no plant knows the lot",
    "result.investigated": "Under investigation",
    "result.laboratory_error": "Laboratory error: the result is void",
    "result.confirmed": "Confirmed",
    "result.review": "To be reviewed",
    "run.closed": "Closed",
    "run.cancelled": "Cancelled",
    "run.superseded": "Superseded",
    "run.refused": "Refused",
}
#: What a row of the quality wall calls for, and whether a run is judged.
PLANT |= {
    "WALL_STATE_NORMAL": "Normal",
    "WALL_STATE_WATCH": "Near a limit",
    "WALL_STATE_ABNORMAL": "Abnormal",
    "WALL_STATE_SILENT": "Silent",
    "RUN_JUDGING_JUDGED": "Judged",
    "RUN_JUDGING_NO_MODEL": "Not judged: no model of the product",
    "RUN_JUDGING_TRAINED_ON": "Not judged: the model learnt from it",
}
#: Events of a deviation's and a corrective action's history.
PLANT |= {
    "DeviationDetected": "Was detected",
    "DeviationInvestigationStarted": "Investigation started",
    "DeviationRejected": "Deviation rejected as a false alarm",
    "DeviationClassified": "Classified",
    "DeviationCapaRequired": "CAPA required",
    "DeviationCapaRefused": "CAPA refused: the deviation waits for a person",
    "DeviationClosed": "Deviation closed",
    "CapaApproved": "CAPA approved",
    "CapaRefused": "CAPA refused",
    "ChangeValidated": "Change validated",
    "ChangeFilingAssessed": "Filing assessed",
    "CapaEffectivenessChecked": "Effectiveness checked",
}
#: Why the evidence of a corrective action leaves the limit as it is.
PLANT |= {
    "LIMIT_KEPT_NOBODY_FOLLOWED": "nobody was followed up",
    "LIMIT_KEPT_WITHHELD": "all numbers of patients are withheld, for a group is below 10",
    "LIMIT_KEPT_NO_ANSWERS": "nobody answered",
    "LIMIT_KEPT_NO_COMPLAINTS": "no complaint is among the answers that were released",
    "LIMIT_KEPT_TOO_FEW": "the share of those with a complaint is too small to move it",
    "LIMIT_KEPT_NARROWEST": "a narrower one would raise too many false alarms",
}
#: Why an estimate, or its interval, is not given.
PLANT |= {
    "NOT_RELEASED": "nothing released yet",
    "WITHHELD": "withheld: a group is below 10",
    "NO_CASES": "no cases",
    "NO_COMPARATOR_CASES": "no cases among the comparators",
    "NO_EXPOSED_CASES": "no cases among the exposed",
    "NO_PERSON_TIME": "no follow-up time of both groups to compare",
}
