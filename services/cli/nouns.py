"""The nouns of the command: what it is about. Their verbs stand in the modules beside."""

from __future__ import annotations

from services.cli.group import Noun

RUN = Noun("run", "Runs of the loops: safety, transfer, evidence.")
LOT = Noun("lot", "Lots: their state, where they went, all that is known of them.")
DEVIATION = Noun("deviation", "Deviations that the charts found, and who judges them.")
CAPA = Noun("capa", "Corrective actions, from signature to check.")
WALL = Noun("wall", "The quality wall: every line's run beside its limits.")
CHART = Noun("chart", "A tag of a lot, beside what good runs do.")
RESULT = Noun("result", "What the laboratory measured of lots.")
MODEL = Noun("model", "What good runs of a product look like, and its severity rules.")
TWIN = Noun("twin", "The live twin of a lot that is being made.")
LINE = Noun("line", "Lines of plants, and what their vessels can do.")
EQUIPMENT = Noun("equipment", "Equipment, and the tags that it tells.")
TRANSFER = Noun("transfer", "Parameter sets on their way to plants.")
SET = Noun("set", "Parameter sets: drafted, reviewed, released by three people.")
TRIAL = Noun("trial", "Virtual trials.")
TARGET = Noun("target", "Targets that molecules are made for.")
MOLECULE = Noun("molecule", "Molecules.")
PRODUCT = Noun("product", "Products.")
STUDY = Noun("study", "Questions that several sites answer together.")
DATASET = Noun("dataset", "What sites offer for studies.")
FINDING = Noun("finding", "What studies found, and whether it is taken up.")
INSIGHT = Noun("insight", "What the safety loop learned of a product.")
HYPOTHESIS = Noun("hypothesis", "Hypotheses, and where findings put them.")
CANDIDATE = Noun("candidate", "Candidates by rank, with the evidence of their score.")
THING = Noun("thing", "Whatever has an id: found by its beginning.")
LINEAGE = Noun("lineage", "What a thing comes from, and what it leads to.")
EXPOSURE = Noun("exposure", "Who of a site was exposed in a run.")
SUSPECT = Noun("suspect", "Records that look wrong to the trace.")
PLAN = Noun("plan", "Plans by which a site follows its patients up.")
NOTICE = Noun("notice", "Who of a run is to be told, and with which words.")
TEMPLATE = Noun("template", "Templates of follow-up: what is asked, and when.")
SITE = Noun("site", "A hospital: what it says of lots, runs and cohorts.")
ALERT = Noun("alert", "What waits for somebody.")
WAITING = Noun("waiting", "What waits for a person to decide, of every loop.")
FACT = Noun("fact", "Facts, one request at a time, as JSON; rows of CSV and Parquet go by `feed`.")
CHANGE = Noun("change", "What changes in a service, as it happens.")
DLQ = Noun("dlq", "Dead letters: see them, have them processed again, give them up.")
REBUILD = Noun("rebuild", "Views that are made anew from the log, beside those that answer.")
BACKUP = Noun("backup", "Backups: all databases and topics, made, checked, laid back into an empty platform.")
CONFORMANCE = Noun("conformance", "A partner's program, judged by a sandbox; a platform, by its promises.")
DRILL = Noun("drill", "Faults planted in the stack that runs here, to see alerts and runbooks at work.")
BENCH = Noun("bench", "Benchmarks, where the checkout is.")

ALL = (
    *(
        RUN,
        LOT,
        DEVIATION,
        CAPA,
        WALL,
        CHART,
        RESULT,
        MODEL,
        TWIN,
        LINE,
        EQUIPMENT,
        TRANSFER,
        SET,
        TRIAL,
        TARGET,
        DRILL,
    ),
    *(MOLECULE, PRODUCT, STUDY, DATASET, FINDING, INSIGHT, HYPOTHESIS, CANDIDATE, THING, LINEAGE, EXPOSURE),
    *(SUSPECT, PLAN, NOTICE, TEMPLATE, SITE, FACT, ALERT, WAITING, CHANGE, DLQ, REBUILD, BACKUP),
    *(CONFORMANCE, BENCH),
)
