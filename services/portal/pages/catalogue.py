"""What research knows by name: targets, molecules, products; each is registered once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from services.portal.backend import Backend
from services.portal.drafting import Draft, Way, show_draft, take_draft
from services.portal.forms import Entry, Group, Typed
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.words import N_

router = APIRouter()
_ROWS = 100
_MOST_OFFERED = 200


@dataclass(frozen=True)
class Kind:
    """One kind of entry: how it is registered, and what the form asks."""

    title: str
    method: str
    submit: str
    entries: tuple[Entry, ...]


_NAME = Entry("name", N_("Name"), required=True)
KINDS = {
    "target": Kind(
        N_("Register a target"),
        "RegisterTarget",
        N_("Register the target"),
        (
            Entry("target", N_("Id"), required=True, help=N_("For example VKORC1.")),
            _NAME,
            Entry("provenance", N_("Where the claim comes from that it matters"), "words", required=True),
        ),
    ),
    "molecule": Kind(
        N_("Register a molecule"),
        "RegisterMolecule",
        N_("Register the molecule"),
        (
            Entry("molecule", N_("Id"), required=True),
            _NAME,
            Entry("target", N_("Target it acts on"), help=N_("Left empty where none is known.")),
            Entry(
                "smiles",
                N_("Structure as SMILES"),
                "words",
                required=True,
                help=N_("It is kept sealed and shown on no page."),
            ),
            Entry("provenance", N_("Where it comes from"), "words", required=True),
        ),
    ),
    "product": Kind(
        N_("Register a product"),
        "RegisterProduct",
        N_("Register the product"),
        (
            Entry(
                "product",
                N_("Key"),
                required=True,
                help=N_("Canonical key: owner, scheme and item with slashes between them."),
            ),
            _NAME,
            Entry("indication", N_("Indication"), required=True),
            Entry("molecule", N_("Molecule"), help=N_("Left empty where none is registered.")),
            Entry("target", N_("Target it acts on"), help=N_("The molecule's where it is left empty.")),
        ),
    ),
}
_LIVE = ("type:TargetRegistered", "type:MoleculeRegistered", "type:ProductRegistered")


@router.get("/catalogue")
async def catalogue(request: Request, targets: str = "", molecules: str = "", products: str = "") -> Response:
    """Products first, then what they carry and what that acts on."""
    backend: Backend = request.app.state.backend
    tokens = {"products": products, "molecules": molecules, "targets": targets}
    found, missing = await parts(
        products=backend.ask("rnd", "ListProducts", page_size=_ROWS, page_token=products),
        molecules=backend.ask("rnd", "ListMolecules", page_size=_ROWS, page_token=molecules),
        targets=backend.ask("rnd", "ListTargets", page_size=_ROWS, page_token=targets),
    )
    values: dict[str, Any] = {
        name: list(getattr(found[name], name)) if found[name] else [] for name in tokens
    }
    after = {name: found[name].next_page_token for name in tokens if found[name]}
    values["next"] = {
        name: f"?{urlencode(tokens | {name: token})}#{name}" for name, token in after.items() if token
    }
    values["missing"] = missing
    return page(request, "catalogue.html", values, live=_LIVE)


@router.get("/catalogue/{kind}/new")
async def new(request: Request, kind: str) -> Response:
    chosen = _kind(kind)
    return show_draft(request, await _draft(request, chosen), {})


@router.post("/catalogue/{kind}/new")
async def registered(request: Request, kind: str) -> Response:
    chosen = _kind(kind)

    async def ask(_: Typed) -> Draft:
        return await _draft(request, chosen)

    way = Way("rnd", chosen.method, lambda found: found.fields, lambda *_: f"/catalogue#{kind}s")
    return await take_draft(request, ask, way)


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise HTTPException(404)
    return KINDS[name]


async def _draft(request: Request, kind: Kind) -> Draft:
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    offered, _ = await parts(
        targets=backend.ask("rnd", "ListTargets", page_size=_MOST_OFFERED),
        molecules=backend.ask("rnd", "ListMolecules", page_size=_MOST_OFFERED),
    )
    known = {
        name: tuple((getattr(one, name), one.name) for one in getattr(offered[f"{name}s"], f"{name}s"))
        for name in ("target", "molecule")
        if offered[f"{name}s"]
    }
    entries = tuple(
        one if one.path == kind.entries[0].path else _offering(one, known.get(one.path, ()))
        for one in kind.entries
    )
    return Draft(
        title=language.say(kind.title),
        purpose=language.say("An entry is not changed afterwards: another claim needs another id."),
        back="/catalogue",
        submit=language.say(kind.submit),
        groups=(Group(N_("Entry"), entries),),
    )


def _offering(entry: Entry, known: tuple[tuple[str, str], ...]) -> Entry:
    """The field, with what is registered offered while one types."""
    return Entry(entry.path, entry.label, entry.kind, entry.required, entry.help, known=known)
