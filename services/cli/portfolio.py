"""Targets, molecules, products, one trial, and what the safety loop learned: what research has on record."""

from __future__ import annotations

import click

from pharmaloop.rnd.v1 import service_pb2 as api
from services.cli.nouns import INSIGHT, MOLECULE, PRODUCT, TARGET, TRIAL
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import table


@TARGET.verb("list", watched=True)
@click.pass_obj
def targets(session: Session) -> None:
    """List targets."""
    pages = session.pages(session.rnd.ListTargets, api.ListTargetsRequest())
    found = [plain(item) for page in pages for item in page.targets]
    rows = [[one["target"], one["name"], one["provenance"], one["actor"]] for one in found]
    columns = ["target", "name", "from", "registered by"]
    session.show({"targets": found}, lambda out: out.print(table("Targets", columns, rows)))


@MOLECULE.verb("list", "", "--target t-1", watched=True)
@click.option("--target", default="", help="Only those made for this target.")
@click.pass_obj
def molecules(session: Session, target: str) -> None:
    """List molecules; their structures stay sealed."""
    pages = session.pages(session.rnd.ListMolecules, api.ListMoleculesRequest(target=target))
    found = [plain(item) for page in pages for item in page.molecules]
    rows = [[one["molecule"], one["name"], one["target"], one["provenance"], one["actor"]] for one in found]
    columns = ["molecule", "name", "target", "from", "registered by"]
    session.show({"molecules": found}, lambda out: out.print(table("Molecules", columns, rows)))


@MOLECULE.verb("show", "m-17", watched=True)
@click.argument("molecule")
@click.pass_obj
def molecule(session: Session, molecule: str) -> None:
    """Show MOLECULE with its structure, which the service opens for those who may read it."""
    request = api.GetMoleculeRequest(molecule=molecule)
    found = plain(session.call(session.rnd.GetMolecule, request))
    one, structure = found["molecule"], found["structure"] or {"smiles": ""}
    rows = [[one["molecule"], one["name"], one["target"], structure["smiles"] or "-", one["provenance"]]]
    columns = ["molecule", "name", "target", "SMILES", "from"]
    session.show(found, lambda out: out.print(table("Molecule", columns, rows)))


@PRODUCT.verb("list", "", "--indication bleeding", watched=True)
@click.option("--indication", default="", help="Only of this indication.")
@click.pass_obj
def products(session: Session, indication: str) -> None:
    """List products."""
    pages = session.pages(session.rnd.ListProducts, api.ListProductsRequest(indication=indication))
    found = [plain(item) for page in pages for item in page.products]
    columns = ["product", "name", "molecule", "target", "indication"]
    rows = [[one[name] or "-" for name in columns] for one in found]
    session.show({"products": found}, lambda out: out.print(table("Products", columns, rows)))


@TRIAL.verb("show", "v-3", watched=True)
@click.argument("trial")
@click.pass_obj
def trial(session: Session, trial: str) -> None:
    """Show the virtual TRIAL: its effect, power, verdict and what they rest on."""
    found = plain(session.call(session.rnd.GetTrial, api.GetTrialRequest(trial=trial)).trial)
    one = found["completed"]
    effect = one["effect"] or {}
    rows = [
        ["trial", one["trial"]],
        ["product", one["product"]],
        ["molecule", one["molecule"]],
        ["for", one["context_of_use"]],
        ["model", one["model"]],
        ["subjects", str(one["subjects"])],
        ["effect", " ".join(f"{name} {value}" for name, value in effect.items() if value is not None) or "-"],
        ["power", f"{one['power']:.3f}"],
        ["probability of success", f"{one['probability_of_success']:.3f}"],
        ["verdict", word(one["verdict"], "TRIAL_VERDICT").replace("_", "-")],
        ["statement", one["statement"]],
        ["at", found["at"] or "-"],
    ]
    session.show({"trial": found}, lambda out: out.print(table("Virtual trial", ["what", "value"], rows)))


@INSIGHT.verb("list", "", "--product product-1", watched=True)
@click.option("--product", default="", help="Only of this product.")
@click.option("--parameter", default="", help="Only of this process parameter.")
@click.pass_obj
def insights(session: Session, product: str, parameter: str) -> None:
    """List what runs of the safety loop taught, newest first."""
    request = api.ListInsightsRequest(product=product, parameter=parameter)
    pages = session.pages(session.rnd.ListInsights, request)
    found = [plain(item) for page in pages for item in page.insights]
    columns = ["insight", "product", "parameter", "statement", "run", "lot", "at"]
    rows = [[one[name] or "-" for name in columns] for one in found]
    session.show({"insights": found}, lambda out: out.print(table("Insights", columns, rows)))
