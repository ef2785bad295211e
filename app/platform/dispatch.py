"""From a request to its operation by table, in place of asking one route after the other.

FastAPI declares and documents the operations, and answers whatever is not in the table: what has no operation, sockets,
pages, another method where a part of the path is a parameter. For the rest its way costs more than all of ours: it
matches each route before the right one with a regular expression, twice where routers are included, and solves
dependencies that could be anything. Ours are functions of the request, so calling them is all there is to solve.
"""

import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import MethodNotAllowed
from .http import allow

Handler = Callable[[Request], Awaitable[Response]]
ErrorHandlers = Mapping[Any, Callable[[Request, Exception], Any]]
_Resolve = Callable[[Request], Awaitable[dict[str, Any]]]


class Dispatch:
    """Middleware, the innermost: the operations that it knows end here, with errors rendered by the app's handlers."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], error_handlers: ErrorHandlers) -> None:
        self.app = app
        self._error_handlers = error_handlers
        self._by_path: dict[tuple[str, str], tuple[APIRoute, Handler]] = {}
        # By method and number of parts, in the order of the routes.
        self._by_pattern: defaultdict[tuple[str, int], list[tuple[APIRoute, Handler]]] = defaultdict(list)
        for route in routes:
            if isinstance(route, APIRoute) and (handler := _handler_of(route.dependant)) is not None:
                for method in route.methods or ():
                    if route.param_convertors:
                        self._by_pattern[method, route.path.count("/")].append((route, handler))
                    else:
                        self._by_path.setdefault((method, route.path), (route, handler))
        # A path of its own is no parameter of another's: /api/tickets/bulk is no ticket. All of its methods are known.
        methods: defaultdict[str, list[str]] = defaultdict(list)
        for method, path in self._by_path:
            methods[path].append(method)
        self._others = {
            path: (route, _refusing(methods[path])) for (_, path), (route, _handler) in self._by_path.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if found is None:
            await self.app(scope, receive, send)
            return
        route, handler, path_params = found
        scope["route"] = route
        scope["path_params"] = path_params
        request = Request(scope, receive, send)
        try:
            response = await handler(request)
        except Exception as error:
            render = next(
                (self._error_handlers[kind] for kind in type(error).__mro__ if kind in self._error_handlers), None
            )
            if render is None:
                raise
            response = await render(request, error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[APIRoute, Handler, dict[str, Any]] | None:
        method, path = scope["method"], scope["path"]
        if found := self._by_path.get((method, path)):
            return *found, {}
        if others := self._others.get(path):
            return *others, {}
        for route, handler in self._by_pattern.get((method, path.count("/")), ()):
            if match := route.path_regex.match(path):
                return route, handler, match.groupdict()
        return None


def _refusing(methods: Sequence[str]) -> Handler:
    async def refuse(_request: Request) -> Response:
        raise MethodNotAllowed(headers={"Allow": allow(methods)})

    return refuse


def _handler_of(dependant: Dependant) -> Handler | None:
    """Calls the operation with what it asks for; None where that takes FastAPI to find."""
    endpoint, resolve = dependant.call, _resolver_of(dependant)
    if endpoint is None or resolve is None or not inspect.iscoroutinefunction(endpoint):
        return None

    async def handle(request: Request) -> Response:
        response: Response = await endpoint(**await resolve(request))
        return response

    return handle


def _resolver_of(dependant: Dependant) -> _Resolve | None:
    """Finds the arguments: the request, parts of the path as text, and what functions of the same kind answer."""
    params = dependant.path_params
    others = dependant.query_params or dependant.header_params or dependant.cookie_params or dependant.body_params
    is_plain = all(param.field_info.annotation is str and not param.field_info.metadata for param in params)
    if others or not is_plain or any(getattr(dependant, f"{name}_param_name") for name in _NOT_GIVEN):
        return None
    inner: list[tuple[str | None, Callable[..., Any], _Resolve]] = []
    for dependency in dependant.dependencies:
        call, resolve_inner = dependency.call, _resolver_of(dependency)
        if call is None or resolve_inner is None or not inspect.iscoroutinefunction(call):
            return None
        inner.append((dependency.name, call, resolve_inner))
    request_name = dependant.request_param_name
    names = [(param.name, param.alias) for param in params]

    async def resolve(request: Request) -> dict[str, Any]:
        values: dict[str, Any] = {name: request.path_params[alias] for name, alias in names}
        if request_name is not None:
            values[request_name] = request
        for name, call, resolve_inner in inner:
            value = await call(**await resolve_inner(request))
            if name is not None:
                values[name] = value
        return values

    return resolve


_NOT_GIVEN = ("websocket", "http_connection", "response", "background_tasks", "security_scopes")
