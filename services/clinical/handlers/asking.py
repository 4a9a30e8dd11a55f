"""With which template the plans of a run are opened, and the registering of templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.domain import template_rules, templates
from services.clinical.domain.holdings import Holding
from services.clinical.domain.plans import Plan
from services.clinical.handlers.here import Here
from services.clinical.views import HOLDINGS, TEMPLATES
from services.kit.ids import check_product, product_of
from services.kit.refused import refusals
from services.kit.store.kinds import Where
from services.kit.work import Work

Choose = Callable[[Plan], clinical.FollowUpTemplate]


def chooser(here: Here, work: Work, holding: Holding, lots: Iterable[str]) -> Choose | None:
    """Which template holds for a plan of the run; None while that depends on what the run is about,
    and nobody has heard that yet."""
    products = ["", *sorted({product_of(lot) for lot in lots})]
    work.load_all(Where(TEMPLATES, "product", product) for product in products)
    fitting = [held for one in products for held in work.where(TEMPLATES, "product", one).values()]
    kind = _kind(here, work, holding) if any(held.kind for held in fitting) else ""
    if kind is None:
        return None

    @cache
    def chosen(mine: tuple[str, ...]) -> clinical.FollowUpTemplate:
        return templates.chosen(fitting, mine, kind)

    return lambda plan: chosen(tuple(sorted({product_of(lot) for lot in plan.lots})))


def _kind(here: Here, work: Work, holding: Holding) -> str | None:
    """The deviation kind of the run; that of the first run, where it follows a sealed one."""
    about = holding.about
    while about is not None and about.follows:
        before = work.get(HOLDINGS, here.id_of(about.follows))
        about = before.about if before else None
    return about.kind if about else None


@refusals("template")
def register_template(
    here: Here, work: Work, request: api.RegisterFollowUpTemplateRequest
) -> api.RegisterFollowUpTemplateResponse:
    """A person registers how patients are followed up from now on; the same once more changes nothing."""
    wanted = request.template
    if wanted.product:
        check_product(wanted.product, "template.product")
    template_rules.check(wanted)
    id = templates.template_id(wanted.product, wanted.deviation_kind)
    held = templates.held_as(work.get(TEMPLATES, here.id_of(id)), id)
    content = templates.registered(held, wanted)
    if held is None or content != held.newest:
        told = clinical.FollowUpTemplateRegistered(
            template=id, site=here.site, content=content, actor=work.cause.actor
        )
        work.apply(TEMPLATES, here.id_of(id), told, site=here.site)
    return api.RegisterFollowUpTemplateResponse(template=id, version=content.version)
