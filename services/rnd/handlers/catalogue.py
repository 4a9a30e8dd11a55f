"""What people register: targets, molecules, products. The structure of a molecule comes sealed."""

from __future__ import annotations

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.ids import check_product
from services.kit.refused import refusals
from services.kit.work import Work
from services.rnd.domain import catalogue
from services.rnd.views import MOLECULES, PRODUCTS, TARGETS


@refusals()
def register_target(work: Work, request: api.RegisterTargetRequest) -> api.RegisterTargetResponse:
    asked = events.TargetRegistered(
        target=request.target, name=request.name, provenance=request.provenance, actor=work.cause.actor
    )
    for event in catalogue.decide_target(work.get(TARGETS, asked.target), asked):
        work.apply(TARGETS, asked.target, event)
    return api.RegisterTargetResponse()


@refusals()
def register_molecule(work: Work, asked: events.MoleculeRegistered) -> api.RegisterMoleculeResponse:
    target = work.get(TARGETS, asked.target) if asked.target else None
    alike = work.where(MOLECULES, "structure_hash", asked.structure_hash.hex())
    held = work.get(MOLECULES, asked.molecule)
    for event in catalogue.decide_molecule(held, asked, target, alike):
        work.apply(MOLECULES, asked.molecule, event)
    return api.RegisterMoleculeResponse()


@refusals()
def register_product(work: Work, request: api.RegisterProductRequest) -> api.RegisterProductResponse:
    check_product(request.product)
    molecule = work.get(MOLECULES, request.molecule) if request.molecule else None
    asked = events.ProductRegistered(
        product=request.product,
        name=request.name,
        molecule=request.molecule,
        target=request.target or (molecule.target if molecule else ""),
        indication=request.indication,
        actor=work.cause.actor,
    )
    target = work.get(TARGETS, asked.target) if asked.target else None
    held = work.get(PRODUCTS, asked.product)
    for event in catalogue.decide_product(held, asked, molecule, target):
        work.apply(PRODUCTS, asked.product, event)
    return api.RegisterProductResponse()
