"""Who I am, for the record: the name that stands under what one decides. Identity proper comes with trust."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.portal.addresses import inside
from services.portal.render import page

router = APIRouter()
_DAY = 24 * 3600
_MOST = 200


@router.get("/me")
async def show(request: Request, to: str = "/") -> Response:
    return page(request, "me.html", {"to": to, "error": ""})


@router.post("/me")
async def remember(request: Request, name: str = Form(""), to: str = Form("/")) -> Response:
    name = " ".join(name.split())
    if not name or len(name) > _MOST:
        return page(request, "me.html", {"to": to, "error": "name"}, status=422)
    answer = RedirectResponse(inside(to), status_code=303)
    answer.set_cookie("actor", quote(name), max_age=_DAY, samesite="lax", httponly=True)
    return answer
