"""What a page cannot show while a service is away: which parts, in words, and whose they are.

A part is named by what was asked for, so that no page has to name its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.portal.backend import Missing
from services.portal.languages import Language
from services.portal.words import N_

#: What a person calls each service, by its name.
SERVICES = {
    "production": N_("the plants' records"),
    "traceability": N_("the trace"),
    "clinical": N_("the hospital's own records"),
    "alerting": N_("the alerts"),
    "rnd": N_("research and development"),
    "loops": N_("the loops"),
    "exchange": N_("studies between hospitals"),
}
#: What each question brings onto a page.
PARTS = {
    "CountRuns": N_("Loops"),
    "ExplainDifference": N_("Reconciliation differences"),
    "ExplainUnattributed": N_("Doses without a known lot"),
    "FindInGenealogy": N_("Genealogy"),
    "FindThings": N_("Hits of the search"),
    "GetAlert": N_("Alerts"),
    "GetChart": N_("Chart"),
    "GetDispense": N_("Dispenses"),
    "GetEvidence": N_("Evidence"),
    "GetExposure": N_("Exposed patients"),
    "GetHazard": N_("Evaluation of the health hazard"),
    "GetLineage": N_("Lineage"),
    "GetLot": N_("Lots"),
    "GetLotDossier": N_("Dossier of the lot"),
    "GetLotNode": N_("Genealogy"),
    "GetParameterSet": N_("Parameter sets"),
    "GetParameterSetDiff": N_("Parameter sets"),
    "GetRun": N_("Loops"),
    "GetSiteBoard": N_("Patients and plans of the hospital"),
    "GetStatus": N_("How the service runs, and the platform's time"),
    "GetStudy": N_("Studies"),
    "GetTransfer": N_("Tech transfer"),
    "GetTransferGaps": N_("Tech transfer"),
    "GetTrial": N_("Virtual trials"),
    "ListAdverseEvents": N_("Adverse events of the hospital"),
    "ListAlerts": N_("Alerts"),
    "ListCandidates": N_("Ranked candidates"),
    "ListCapas": N_("Corrective actions"),
    "ListDatasets": N_("Datasets"),
    "ListDeviations": N_("Deviations"),
    "ListExposures": N_("Exposed patients"),
    "ListFindings": N_("Findings"),
    "ListHypotheses": N_("Hypotheses"),
    "ListInsights": N_("Findings"),
    "ListLines": N_("Lines of the plants"),
    "ListLots": N_("Lots"),
    "ListMolecules": N_("Molecules"),
    "ListNeighbours": N_("Genealogy"),
    "ListNotices": N_("Notices to patients"),
    "ListParameterSets": N_("Parameter sets"),
    "ListPlans": N_("Monitoring plans"),
    "ListProducts": N_("Products"),
    "ListResponses": N_("Answers"),
    "ListResults": N_("Laboratory results"),
    "ListRuns": N_("Loops"),
    "ListStudies": N_("Studies"),
    "ListTargets": N_("Targets"),
    "ListTransfers": N_("Tech transfer"),
    "ListTrials": N_("Virtual trials"),
    "ListUnattributed": N_("Doses without a known lot"),
    "ListWall": N_("Quality wall"),
}


@dataclass(frozen=True)
class Absent:
    """A process that does not answer, what a person calls its service, and the parts of the page that it
    would bring; in English."""

    process: str
    service: str
    parts: tuple[str, ...]

    def told(self, language: Language) -> str:
        """The parts as a list, in the reader's language; empty where none has a name."""
        return language.listed([language.say(part) for part in self.parts])

    def whose(self, language: Language) -> str:
        """What a person calls the service, with the name of its process."""
        return f"{language.say(self.service)} ({self.process})" if self.service else self.process


def absent(missing: Iterable[Missing]) -> list[Absent]:
    """By process, once, in the order in which they were missed."""
    found: dict[str, list[str]] = {}
    for one in missing:
        parts = found.setdefault(one.service, [])
        part = PARTS.get(one.method, "")
        if part and part not in parts:
            parts.append(part)
    return [
        Absent(process, SERVICES.get(process.partition(".")[0], ""), tuple(parts))
        for process, parts in found.items()
    ]
