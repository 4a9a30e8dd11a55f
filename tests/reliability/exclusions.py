"""What the canonical export leaves out, and why. Everything that is not named here is compared.

A new kind of state or a new field is compared from its first day; whoever
wants it left out has to write the reason here.
"""

from __future__ import annotations

#: Fields of states and events that hold wall time.
WALL = "wall time: it differs from run to run"
#: How often a protocol had to speak depends on what arrived together.
ROUNDS = "counts rounds of a protocol: how many depends on what arrived together"
UPDATES = (
    "a deviation is updated with what is read at once: readings that wait for their lot make fewer updates"
)
SEALED = "sealed under a fresh nonce: other bytes each time for the same content"
NAMED = "named after the line's vessel as it is kept, which is sealed under a fresh nonce"
SPAN = "a trace id is random"
COMPLETED = "cause, time and id are those of whichever event completed what it rests on"
RELEASED = "what may be told depends on what was told before, and so on which answers came first"
JOBS = "of a job, or named after one: how many a study takes depends on who died; how it ends is compared"
LIVED = "contributions are valued only where nobody died meanwhile; what they then are is an invariant"
ORDER = "lists the same in the order of arrival: compared as a set"

#: Collections that are not compared at all; a name that ends with * stands for all that begin so.
COLLECTIONS: dict[str, str] = {
    "*._*": "the kit's own bookkeeping (watermarks, versions seen, outbox, leases, steps): "
    "it says how far a process is, not what is true; the invariants check it",
    "*.system.*": "MongoDB's own",
    "exchange.budget": JOBS,
    "agent.*.opened_cohort": JOBS,
    "rnd.finding": JOBS,
    "rnd.finding_row": JOBS,
    "traceability.lineage_hop": "a row for every event, by its id: events are compared where they live",
}

#: (service.collection, field path) of states; a path ends at any depth, `[]` stands for list elements.
FIELDS: dict[tuple[str, str], str] = {
    ("traceability.exposure_run", "round"): ROUNDS,
    ("traceability.exposure_run", "passed"): ROUNDS,
    ("traceability.exposure_run", "covers"): ROUNDS,
    ("traceability.exposure_run", "asked"): ROUNDS,
    ("traceability.exposure_run", "cut_asked"): ROUNDS,
    ("traceability.exposure_run", "extended"): ROUNDS,
    ("traceability.exposure_run", "cut"): "positions in the log: repeats take places too",
    ("traceability.exposure_run", "trace"): SPAN,
    ("traceability.exposure", "version"): ROUNDS,
    ("traceability.exposure", "sites[].epoch"): ROUNDS,
    ("traceability.dossier_run", "opened"): COMPLETED,
    ("traceability.dossier_run", "ended"): COMPLETED,
    ("traceability.dossier_run", "by_hand.at"): COMPLETED,
    ("traceability.dossier_run", "stages[].seconds"): WALL,
    ("traceability.dossier_journal", "sealed"): COMPLETED,
    ("traceability.dossier_journal", "explained.items[].at"): COMPLETED,
    ("traceability.dossier_capa", "proposed"): COMPLETED,
    ("traceability.dossier_site", "released.number"): RELEASED,
    ("clinical.holding", "version"): ROUNDS,
    ("clinical.holding", "announced.epoch"): ROUNDS,
    ("clinical.holding", "key"): SEALED,
    ("clinical.patient", "profile"): SEALED,
    ("clinical.dispense", "again"): "how often the trace was told depends on when a journal named it",
    ("clinical.plan", "answer.text"): SEALED,
    ("clinical.plan", "results.*.sealed"): SEALED,
    ("clinical.adverse", "reports[].text"): SEALED,
    ("clinical.exposure", "received.epoch"): ROUNDS,
    ("clinical.exposure", "bulks"): ROUNDS,
    ("clinical.evidence", "number"): RELEASED,
    ("production.evidence", "releases[].number"): RELEASED,
    ("production.evidence", "version"): ROUNDS,
    ("production.evidence", "sealed"): ROUNDS,
    ("production.capa_row", "at"): COMPLETED,
    ("production.watch", "heard"): WALL,
    ("alerting.matter", "end.at"): COMPLETED,
    ("alerting.matter", "classified"): UPDATES,
    ("alerting.matter", "impact"): UPDATES,
    ("exchange.study", "jobs"): JOBS,
    ("exchange.study", "insight"): JOBS,
    ("exchange.study", "contributions"): JOBS,
    ("rnd.hypothesis", "insights"): JOBS,
    ("rnd.hypothesis", "updated.insight"): JOBS,
    ("rnd.hypothesis_row", "insights"): JOBS,
    ("rnd.hypothesis_row", "updated.insight"): JOBS,
    ("loops.journal", "version"): ROUNDS,
    ("loops.run", "closed.insight"): JOBS,
    ("loops.run", "began"): WALL,
    ("loops.run", "rank"): "sorts by `began`, which is wall time",
    ("loops.run", "seconds"): WALL,
    ("loops.run", "stages[].seconds"): WALL,
    ("loops.run", "stages[].ended"): WALL,
    ("loops.run", "stages[].platform"): COMPLETED,
    ("loops.run", "stages[].slo"): "a stage that is over at once sets no deadline",
}

#: Lists that are sets: compared without their order.
SETS: dict[tuple[str, str], str] = {
    ("traceability.exposure_run", "watches"): ORDER,
    ("traceability.exposure", "lots"): ORDER,
    ("traceability.dossier_lot", "judged.items"): ORDER,
    ("clinical.holding", "unlooked"): ORDER,
}

#: Aggregates whose version counts rounds; of all others the version is compared.
VERSIONS: dict[str, str] = {
    "traceability.exposure": ROUNDS,
    "clinical.exposure": ROUNDS,
    "production.lot": UPDATES,
    "alerting.alert": UPDATES,
    "clinical.evidence": RELEASED,
    "exchange.study": JOBS,
}

#: Sources on the topics whose number of events depends on what arrived together: their distinct events
#: are compared without number, cause and time (those of whichever input came last); of the types below,
#: which repeat themselves with newer counts, the last.
SOURCES: dict[str, str] = {
    "/svc/traceability/exposure": ROUNDS,
    "/svc/clinical/exposure": ROUNDS,
    "/svc/clinical/evidence": RELEASED,
    "/svc/loops/cases": ROUNDS,
    "/svc/exchange/study": JOBS,
    "/svc/rnd/hypothesis": JOBS,
}
#: Sources whose events are compared without their number, for some of them are left out.
RENUMBERED: dict[str, str] = {
    "/svc/production/lot": UPDATES,
    "/svc/alerting/alert": "the clock gives it to the next role, readings repeat it: either comes first",
}
LAST_ONLY: dict[str, str] = {
    "ExposureAnnounced": "announces the whole run again with every commit",
    "ExposureReceived": "acknowledges the newest announcement, again when a difference changes",
    "PlansOpened": "counts, again when a count changes",
    "NoticesSummarised": "counts, again when a count changes",
    "FollowUpSummarised": "counts, again with every answer",
    "EvidenceReleased": RELEASED,
}
#: Types that a source may or may not need, according to what arrived together.
TYPES: dict[str, str] = {
    "SealRequested": "asked again after every extension",
    "ExposureExtended": "the answer to a seal that was asked for too early",
    "DeviationUpdated": "none where the run was known at once; the newest is compared in its lot",
    "AlertSeverityRaised": UPDATES,
    "DeadlineSet": "a stage that is over at once sets none",
    "JobOpened": JOBS,
    "CohortFrozen": JOBS,
    "JobAudited": JOBS,
    "JobEnded": JOBS,
}
#: (message type, field path) of events; the whole name of the type where two share the short one.
EVENT_FIELDS: dict[tuple[str, str], str] = {
    ("StageCompleted", "began"): WALL,
    ("StageCompleted", "ended"): WALL,
    ("ExposureAnnounced", "version"): ROUNDS,
    ("ExposureAnnounced", "sites.*.epoch"): ROUNDS,
    ("ExposureEntriesJoined", "epoch"): ROUNDS,
    ("ExposureReceived", "epoch"): ROUNDS,
    ("ExposureSealed", "version"): ROUNDS,
    ("EvidenceReleased", "number"): RELEASED,
    ("ExposureOpened", "digest_key"): SEALED,
    ("SubjectRecorded", "profile"): SEALED,
    ("ResponseRecorded", "text"): SEALED,
    ("MoleculeRegistered", "structure"): SEALED,
    ("ParameterSetDrafted", "content"): SEALED,
    ("ParameterSetReleased", "payload"): SEALED,
    ("ParameterSetReleased", "payload_hash"): SEALED,
    ("LineRegistered", "detail"): SEALED,
    ("TwinAdapted", "recipe"): SEALED,
    ("TwinAdapted", "line_version"): NAMED,
    ("OptimisationProposed", "recipe"): SEALED,
    ("OptimisationProposed", "proposal"): NAMED,
    ("OptimisationProposed", "line_version"): NAMED,
    ("OptimisationDecided", "proposal"): NAMED,
    ("RecipeEffective", "recipe"): SEALED,
    ("pharmaloop.exchange.v1.InsightPublished", "insight"): JOBS,
    ("pharmaloop.exchange.v1.InsightPublished", "job"): JOBS,
    ("ContributionMetered", "job"): JOBS,
    ("ContributionMetered", "compute_seconds"): WALL,
    ("ContributionMetered", "share"): LIVED,
    ("ContributionMetered", "valued"): LIVED,
    ("ContributionMetered", "not_valued"): LIVED,
    ("HypothesisUpdated", "insight"): JOBS,
    ("LoopClosed", "insight"): JOBS,
}
EVENT_SETS: dict[tuple[str, str], str] = {
    ("ExposureAnnounced", "lots"): ORDER,
    ("ExposureSealed", "lots"): ORDER,
    ("LoopClosed", "lots"): ORDER,
    ("MonitoringPlansOpened", "plans"): ORDER,
    ("ComparatorsChosen", "plans"): ORDER,
}
#: Topics that are not compared.
TOPICS: dict[str, str] = {
    "pharmaloop.loops.case.v1": "copies of events that are compared where they live",
    "*.dlq": "what a test threw in; that nothing else lies there is an invariant",
    "*changelog": "the loop's table, as bytes of its own; its effects are compared",
}
#: Types that rest on several events, which arrive in any order. So does every fact that a reactor tells
#: (a site that tells the trace of a dispense).
CAUSED: dict[str, str] = {"CapaProposed": COMPLETED, "DeviationCapaRequired": COMPLETED}
