"""The commands that make a call: what a service tells of its calls is told to people as what they type.

Services speak to every program, so their sentences name calls ("list them with ListLines").
"""

from __future__ import annotations

import re

#: What one types for a call that a refusal sends to. A test compares it with all reasons of refusals.
COMMANDS = {
    "ClassifyDeviation": "deviation classify",
    "GetLot": "lot show",
    "GetTransfer": "transfer show",
    "GetVocabulary": "site vocabulary",
    "ListAlerts": "alert list",
    "ListCapas": "capa list",
    "ListDatasets": "dataset list",
    "ListExposures": "exposure list",
    "ListFindings": "finding list",
    "ListLines": "line list",
    "ListMolecules": "molecule list",
    "ListParameterSets": "set list",
    "ListPlans": "plan list",
    "ListResults": "result list",
    "ListStudies": "study list",
    "ListTransfers": "transfer list",
    "ListUnattributed": "run unattributed",
    "RecordResponse": "plan answer",
    "RegisterProduct": "product register",
    "RunTrial": "trial run",
    "StartLot": "lot start",
    "TrainModel": "model train",
}
_CALL = re.compile(rf"\b({'|'.join(COMMANDS)})\b")


def as_typed(sentence: str) -> str:
    """The sentence with commands in place of calls."""
    return _CALL.sub(lambda found: f"'pharmaloop {COMMANDS[found[1]]}'", sentence)
