"""What is registered or recorded from a file as the contract has it, in JSON.

Rows of CSV and Parquet go by `feed`; what stands here is one request at a time.
"""

from __future__ import annotations

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli import nouns
from services.cli.requests import taken_from_file

_LONG = 120.0

for _noun, _verb, _message, _call, _tells in (
    (
        nouns.EQUIPMENT,
        "register",
        production.RegisterEquipmentRequest,
        lambda session, _: session.production.RegisterEquipment,
        "Register equipment with its tags.",
    ),
    (
        nouns.LINE,
        "register",
        production.RegisterLineRequest,
        lambda session, _: session.production.RegisterLine,
        "Register a line with what its vessels can do.",
    ),
    (
        nouns.LOT,
        "start",
        production.StartLotRequest,
        lambda session, _: session.production.StartLot,
        "Say that a lot is being made.",
    ),
    (
        nouns.LOT,
        "complete",
        production.CompleteLotRequest,
        lambda session, _: session.production.CompleteLot,
        "Say that a lot is made.",
    ),
    (
        nouns.MODEL,
        "rules",
        production.SetSeverityRulesRequest,
        lambda session, _: session.production.SetSeverityRules,
        "Set the severity rules of a product's deviations.",
    ),
    (
        nouns.TARGET,
        "register",
        rnd.RegisterTargetRequest,
        lambda session, _: session.rnd.RegisterTarget,
        "Register a target.",
    ),
    (
        nouns.MOLECULE,
        "register",
        rnd.RegisterMoleculeRequest,
        lambda session, _: session.rnd.RegisterMolecule,
        "Register a molecule; its structure is sealed.",
    ),
    (
        nouns.PRODUCT,
        "register",
        rnd.RegisterProductRequest,
        lambda session, _: session.rnd.RegisterProduct,
        "Register a product.",
    ),
    (
        nouns.DATASET,
        "register",
        exchange.RegisterDatasetRequest,
        lambda session, _: session.exchange.RegisterDataset,
        "Offer a dataset of a site for studies.",
    ),
    (
        nouns.TEMPLATE,
        "register",
        clinical.RegisterFollowUpTemplateRequest,
        lambda session, request: session.clinical_at(request.site).RegisterFollowUpTemplate,
        "Register a template of follow-up at a site.",
    ),
    (
        nouns.PLAN,
        "answer",
        clinical.RecordResponseRequest,
        lambda session, request: session.clinical_at(request.site).RecordResponse,
        "Record what a patient answered to a plan.",
    ),
    (
        nouns.NOTICE,
        "record",
        clinical.RecordNoticesRequest,
        lambda session, request: session.clinical_at(request.site).RecordNotices,
        "Record who was told, and who could not be reached.",
    ),
    (
        nouns.FACT,
        "subjects",
        clinical.RecordSubjectsRequest,
        lambda session, request: session.clinical_at(request.site).RecordSubjects,
        "Record subjects of a site.",
    ),
    (
        nouns.FACT,
        "medications",
        clinical.RecordMedicationsRequest,
        lambda session, request: session.clinical_at(request.site).RecordMedications,
        "Record what a site's own systems say was given.",
    ),
    (
        nouns.FACT,
        "medication-corrections",
        clinical.RecordMedicationCorrectionsRequest,
        lambda session, request: session.clinical_at(request.site).RecordMedicationCorrections,
        "Take back medications that a site recorded wrongly.",
    ),
    (
        nouns.FACT,
        "adverse-events",
        clinical.RecordAdverseEventsRequest,
        lambda session, request: session.clinical_at(request.site).RecordAdverseEvents,
        "Record adverse events that a site's own people report.",
    ),
    (
        nouns.FACT,
        "fhir",
        clinical.RecordFhirResourcesRequest,
        lambda session, request: session.clinical_at(request.site).RecordFhirResources,
        "Record FHIR resources of a site.",
    ),
    (
        nouns.FACT,
        "material",
        trace.RecordMaterialRequest,
        lambda session, _: session.traceability.RecordMaterial,
        "Record what lots were made of.",
    ),
    (
        nouns.FACT,
        "shipments",
        trace.RecordShipmentsRequest,
        lambda session, _: session.traceability.RecordShipments,
        "Record shipments.",
    ),
    (
        nouns.FACT,
        "dispenses",
        trace.RecordDispenseRequest,
        lambda session, _: session.traceability.RecordDispense,
        "Record dispenses of pharmacies.",
    ),
    (
        nouns.FACT,
        "returns",
        trace.RecordReturnsRequest,
        lambda session, _: session.traceability.RecordReturns,
        "Record packs that came back.",
    ),
    (
        nouns.FACT,
        "corrections",
        trace.RecordCorrectionsRequest,
        lambda session, _: session.traceability.RecordCorrections,
        "Take back dispenses that were recorded wrongly.",
    ),
    (
        nouns.FACT,
        "readings",
        production.RecordReadingsRequest,
        lambda session, _: session.production.RecordReadings,
        "Record readings of equipment.",
    ),
    (
        nouns.FACT,
        "test-results",
        production.RecordTestResultsRequest,
        lambda session, _: session.production.RecordTestResults,
        "Record results of the laboratory.",
    ),
):
    taken_from_file(_noun, _verb, _message, _call, _tells)

taken_from_file(
    nouns.MODEL,
    "train",
    production.TrainModelRequest,
    lambda session, _: session.production.TrainModel,
    "Train a product's model on good lots, which are named.",
    _LONG,
)
taken_from_file(
    nouns.TRIAL,
    "run",
    rnd.RunTrialRequest,
    lambda session, _: session.rnd.RunTrial,
    "Run a virtual trial.",
    _LONG,
)
