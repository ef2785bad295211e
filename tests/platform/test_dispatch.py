"""The table of operations: the same as asking FastAPI's routes, but for what it costs."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient
from starlette.responses import PlainTextResponse, Response

import app.main
from app.platform.dispatch import Dispatch, _handler_of
from app.platform.errors import AppError, Forbidden


async def caller(request: Request) -> str:
    return request.headers.get("x-caller", "nobody")


async def greeting(who: Annotated[str, Depends(caller)]) -> str:
    return f"hello {who}"


async def refuse_mallory(request: Request) -> None:
    if request.headers.get("x-caller") == "mallory":
        raise Forbidden("not you")


router = APIRouter()


@router.get("/things")
async def things(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {request.url.path}")


@router.post("/things/bulk", dependencies=[Depends(refuse_mallory)])
async def bulk(words: Annotated[str, Depends(greeting)]) -> Response:
    return PlainTextResponse(words)


@router.get("/things/{thingId}")
async def thing(thing_id: Annotated[str, Path(alias="thingId")], request: Request) -> Response:
    return PlainTextResponse(f"{thing_id} {request.scope['route'].path}")


@router.get("/counted")
async def counted(limit: Annotated[int, Query()] = 5) -> Response:
    return PlainTextResponse(f"limit {limit}")


@router.get("/broken")
async def broken() -> Response:
    raise ZeroDivisionError


async def render(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return PlainTextResponse(error.text, error.status)


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    app = FastAPI(redirect_slashes=False)
    app.include_router(router)
    app.add_exception_handler(AppError, render)
    app.add_middleware(Dispatch, router.routes, app.exception_handlers)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


class TestDispatch:
    @pytest.mark.parametrize(
        ("method", "path", "status", "text"),
        [
            ("GET", "/things", 200, "GET /things"),
            ("POST", "/things/bulk", 200, "hello nobody"),
            ("GET", "/things/bulk", 405, None),
            ("PUT", "/things/bulk", 405, None),
            ("GET", "/things/a%20b", 200, "a b /things/{thingId}"),
            ("DELETE", "/things", 405, None),
            # What the table does not have is FastAPI's to answer.
            ("GET", "/counted?limit=7", 200, "limit 7"),
            ("GET", "/things/a/b", 404, None),
            ("GET", "/things/", 404, None),
            ("DELETE", "/things/a", 405, None),
            ("GET", "/elsewhere", 404, None),
        ],
    )
    async def test_answers_as_routes_do(
        self, client: AsyncClient, method: str, path: str, status: int, text: str | None
    ) -> None:
        answer = await client.request(method, path)

        assert answer.status_code == status
        assert text in (None, answer.text)

    async def test_runs_what_an_operation_depends_on(self, client: AsyncClient) -> None:
        assert (await client.post("/things/bulk", headers={"X-Caller": "alice"})).text == "hello alice"

        refused = await client.post("/things/bulk", headers={"X-Caller": "mallory"})
        assert (refused.status_code, refused.text) == (403, "not you")

    async def test_lets_pass_what_nobody_renders(self, client: AsyncClient) -> None:
        with pytest.raises(ZeroDivisionError):
            await client.get("/broken")


def handlers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for included in app.main.app.routes:
        for route in getattr(getattr(included, "original_router", None), "routes", [included]):
            if isinstance(route, APIRoute):
                found |= {f"{method} {route.path}": _handler_of(route.dependant) for method in route.methods or ()}
    return found


def test_all_operations_are_in_the_table() -> None:
    """One that is not would be slow, and nobody would know why."""
    left_out = {operation for operation, handler in handlers().items() if handler is None}

    assert left_out == set()
    assert len(handlers()) > 50
