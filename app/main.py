"""The ASGI application: `uvicorn app.main:app`."""

import gc

from fastapi import FastAPI

from app.accounts.routes import keys, mfa, passwords, reset_page, security, sessions, signin, users
from app.accounts.routes.refusals import install_refusal_log
from app.analytics import routes as analytics
from app.graphql import routes as graphql
from app.graphql.explorer import explorer_router
from app.lifespan import lifespan_of
from app.notifications.routes import deliveries, feedback, preferences, unsubscribe_page
from app.platform import health
from app.platform.dispatch import Dispatch
from app.platform.http import install_error_handlers
from app.platform.metrics import metrics_router
from app.platform.middleware import BodyLimit, Cors, HeadAsGet, RequestScope, UntilPrepared
from app.platform.openapi import install_openapi
from app.platform.pages import pages_router
from app.platform.proxies import TrustedProxies
from app.realtime import routes as realtime
from app.realtime.asyncapi import asyncapi_router
from app.settings import Settings, load_settings
from app.tickets import routes as tickets

TITLE = "Ticketing"
VERSION = "0.1.0"
DESCRIPTION = (
    "An async, API-first help desk. Customers open tickets, agents work them, admins run the place. "
    "Sign in with `login` and send its `token` as `Authorization: Bearer …`."
)
TAGS = [
    {"name": "tickets", "description": "Open, find, work and finish tickets"},
    {"name": "events", "description": "What happened, for clients that follow it"},
    {"name": "analytics", "description": "Figures for Agents and Admins, kept up to date with every change"},
    {"name": "sign-in", "description": "Accounts, sessions and tokens"},
    {"name": "me", "description": "The caller's own account"},
    {"name": "mfa", "description": "Multi-factor authentication"},
    {"name": "API keys", "description": "Keys for machines"},
    {"name": "users", "description": "Everybody's accounts"},
    {"name": "security", "description": "What Admins demand and look back on"},
    {"name": "notifications", "description": "Mail about tickets: what each wants of it, and what became of it"},
    {"name": "health", "description": "For whoever watches the service"},
]
ALLOWED_HEADERS = [
    *("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID", "X-Request-ID")
]
EXPOSED_HEADERS = [
    *(
        "ETag",
        "Link",
        "Location",
        "Retry-After",
        "X-Request-ID",
        "Idempotency-Replayed",
        "RateLimit",
        "RateLimit-Policy",
    )
]


def create_app(settings: Settings, *, has_jobs: bool = True) -> FastAPI:
    """The service; without its jobs, nobody mails or counts in this process."""
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan_of(settings, has_jobs=has_jobs),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Ours are in platform/metrics.py; FastAPI would look for OpenTelemetry's anew with every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    routers = [
        *(tickets.router, analytics.router, graphql.router, realtime.router, signin.router, users.router),
        *(passwords.router, mfa.router, sessions.router, keys.router, security.router, preferences.router),
        *(deliveries.router, feedback.router, health.router, metrics_router(_metrics_token(settings))),
        *(pages_router(TITLE), reset_page.router, unsubscribe_page.router, asyncapi_router(TITLE, VERSION)),
        explorer_router(),
    ]
    for router in routers:
        app.include_router(router)
    install_error_handlers(app)
    install_refusal_log(app)
    install_openapi(app)
    # The last added is the outermost.
    routes = [route for router in routers for route in router.routes]
    app.add_middleware(Dispatch, routes, app.exception_handlers)
    app.add_middleware(BodyLimit)
    app.add_middleware(UntilPrepared)
    app.add_middleware(RequestScope)
    app.add_middleware(HeadAsGet)
    if settings.allowed_origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
    app.add_middleware(TrustedProxies, settings.trusted_proxies)
    return app


def _metrics_token(settings: Settings) -> str | None:
    return settings.metrics_token.get_secret_value() if settings.metrics_token else None


def leave_alone_what_stays() -> None:
    """Spares the garbage collector what is loaded, and lets it look at new objects less often.

    A full collection went through 140,000 objects of modules and models, for more than 0.1 s in which nobody is served;
    and a collection after each 700 new objects, which a batch of changes makes several times, took a seventh of its
    time. Cycles, which alone need it, are few here.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)


app = create_app(load_settings())
leave_alone_what_stays()
