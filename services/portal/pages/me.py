"""Who I am, for the record: the name that stands under what one decides. Identity proper comes with trust."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.portal.actors import clean, keep
from services.portal.addresses import inside
from services.portal.render import page

router = APIRouter()


@router.get("/me")
async def show(request: Request, to: str = "/") -> Response:
    return page(request, "me.html", {"to": to, "error": ""})


@router.post("/me")
async def remember(request: Request, name: str = Form(""), to: str = Form("/")) -> Response:
    name = clean(name)
    if not name:
        return page(request, "me.html", {"to": to, "error": "name"}, status=422)
    answer = RedirectResponse(inside(to), status_code=303)
    keep(answer, name)
    return answer
