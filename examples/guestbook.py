"""A small web application whose data outlives it: Starlette, and an object behind ``open_async``.

``uvicorn examples.guestbook:app`` keeps its guestbook in ``guestbook/``, or where ``GUESTBOOK_DIR`` says. Kill it at
any moment and start it again: every entry that was answered with 201 is there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import perdure


class Guestbook:
    """Who was here, and what they wrote."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []

    def sign(self, name: str, text: str) -> int:
        if not name or not text:
            raise ValueError("a name and a text are needed")
        self.entries.append({"name": name, "text": text, "at": perdure.clock.utcnow().isoformat()})
        return len(self.entries)

    @perdure.readonly
    def latest(self, count: int) -> list[dict[str, str]]:
        return self.entries[-count:]


class Living(TypedDict):
    guestbook: Any


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[Living]:
    where = os.environ.get("GUESTBOOK_DIR", "guestbook")
    # Leaving the block answers what was accepted, and takes a snapshot for a quick start.
    async with perdure.open_async(Guestbook, where) as guestbook:
        yield {"guestbook": guestbook}


async def sign(request: Request) -> JSONResponse:
    wanted = await request.json()
    try:
        # Awaits the disk, and shares its sync with every request that came in meanwhile.
        number = await request.state.guestbook.sign(str(wanted.get("name", "")), str(wanted.get("text", "")))
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
    return JSONResponse({"number": number}, 201)


async def latest(request: Request) -> JSONResponse:
    return JSONResponse(await request.state.guestbook.latest(10))


app = Starlette(
    routes=[Route("/", sign, methods=["POST"]), Route("/", latest, methods=["GET"])],
    lifespan=lifespan,
)
