"""Prometheus metrics and the route that shows them to whoever holds the metrics token."""

import hmac

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

from .errors import NotFound

REQUEST_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from the first byte of a request to the end of its answer",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
REQUESTS_IN_PROGRESS = Gauge("http_requests_in_progress", "Requests being answered now")
PASSWORD_CHECKS_WAITING = Gauge("password_checks_waiting", "Password hashes waiting for or using a thread")
PASSWORD_CHECKS_REFUSED = Counter("password_checks_refused_total", "Password hashes refused because too many waited")
REQUESTS_REFUSED = Counter("requests_refused_total", "Requests refused for being too many, by limit", ["limit"])
TRANSACTION_RETRIES = Counter("database_transaction_retries_total", "Transactions run again after a transient error")
EVENT_STREAM_LAG = Gauge(
    "event_stream_lag_seconds",
    "By how much live events trail the event log; -1 before the database was first reached",
)
CONSUMER_LAG = Gauge(
    "event_consumer_lag_seconds",
    "How old the oldest event before a consumer is; 0 with none, or when another process is at it",
    ["consumer"],
)
STREAMS = Gauge("event_streams", "Clients connected to live events", ["door"])
STREAMS_ENDED = Counter("event_streams_ended_total", "Live streams that the service ended, by close code", ["code"])
EVENTS_DELIVERED = Counter("event_streams_delivered_total", "Events written to live streams")
MAIL_QUEUE = Gauge("mail_deliveries", "Mails that wait, and those given up; the same in every process", ["state"])
MAIL_OLDEST = Gauge("mail_oldest_waiting_seconds", "How long the oldest mail that waits has been waiting")
MAIL_ATTEMPTS = Counter("mail_attempts_total", "What came of trying to send a mail, in this process", ["outcome"])
DATABASE_UP = Gauge("database_up", "Whether the last look at the database succeeded (1) or not (0)")


def metrics_router(token: str | None) -> APIRouter:
    """`GET /metrics` behind a bearer token; without a configured token there is no such place."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if token is None or not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise NotFound
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
