"""Start and stop: what the service is made of, built in order and closed in reverse."""

import asyncio
import logging
import signal
import threading
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from types import FrameType
from typing import TypedDict

from fastapi import FastAPI
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from app.accounts.audit import AuditEntry
from app.accounts.commands.people import create_first_admin
from app.accounts.commands.verification import Verifier
from app.accounts.documents import ApiKey, PasswordReset, SecurityPolicy, Session, SpentToken, User
from app.accounts.passwords import PasswordPool
from app.accounts.tokens import Tokens, derive_key
from app.analytics import projector
from app.analytics.backfill import count_for, keep_filled
from app.analytics.documents import StatsCell, StatsProgress, StatsTicket
from app.events.consume import ConsumerRow, begin_at_end, consume
from app.events.cursor import Cursors
from app.events.follow import EventFollower
from app.events.log import Event
from app.events.replay import EventReader
from app.mail.documents import Delivery, MailQuota, Suppression
from app.mail.mailers import ConsoleMailer, FileMailer, Mailer
from app.mail.outbox import Outbox
from app.mail.sender import Render, Sender
from app.mail.sendgrid import SendGridMailer
from app.notifications.consumer import notify
from app.notifications.documents import NotificationPreferences
from app.notifications.rendering import render
from app.platform.attempts import Attempts, FailureRow
from app.platform.clock import now
from app.platform.errors import AppError
from app.platform.idempotency import Idempotency, IdempotencyRow
from app.platform.log import configure_logging
from app.platform.mongo import connect, prepare
from app.platform.ratelimit import Budgets
from app.platform.secretbox import SecretBox
from app.platform.sequence import Counter, adopt_numbers
from app.platform.shares import Exchange, ShareRow
from app.platform.wire import Row
from app.realtime.documents import UsedTicket
from app.realtime.hub import Hub
from app.realtime.relay import WATCHED, relay
from app.settings import Settings
from app.tickets.commands import NUMBERS
from app.tickets.documents import Ticket

logger = logging.getLogger(__name__)

DOCUMENTS = [
    *(User, Session, ApiKey, PasswordReset, SpentToken, SecurityPolicy, AuditEntry, FailureRow),
    *(Delivery, MailQuota, Suppression),
    *(Ticket, Event, ConsumerRow, UsedTicket, IdempotencyRow, Counter, ShareRow),
    *(StatsCell, StatsTicket, StatsProgress, NotificationPreferences),
]
# What a consumer's place in the log is kept under.
NOTIFICATIONS = "notifications"
# One that is down is found to be so sooner; one that hangs, or builds indexes for a million rows, must not keep
# /healthz from answering.
FIRST_TRY_S = 6
RETRY_S = 1
# How long a start may take the longer for an old database to have its figures from the first request on.
COUNT_S = 1.0
STOP_S = 5


class Database:
    """The database handle, and whether models and indexes are ready for use."""

    def __init__(self, handle: AsyncDatabase[Row]) -> None:
        self.handle = handle
        self.is_prepared = False


class State(TypedDict):
    """What requests find as `request.state`."""

    database: Database
    tokens: Tokens
    passwords: PasswordPool
    verifier: Verifier
    mail: Outbox
    idempotency: Idempotency
    budgets: Budgets
    events: EventReader
    follower: EventFollower
    hub: Hub
    allowed_origins: frozenset[str]
    registration_is_open: bool
    public_url: str
    notification_key: bytes
    webhook_key: str | None


def lifespan_of(settings: Settings, *, has_jobs: bool) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """`has_jobs`: whether this process also does what requests leave to be done: mail and figures."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        configure_logging(settings.log_level)
        if settings.has_short_secret:
            logger.warning("JWT_SECRET is shorter than 32 bytes; RFC 7518 asks for at least as many for HS256")
        secret = settings.jwt_secret.get_secret_value()
        database = Database(connect(settings.mongodb_uri))
        has_limits = settings.rate_limits == "on"
        passwords = PasswordPool()
        secrets = secret_box_of(settings)
        mail = Outbox(secrets)
        notification_key = derive_key(secret, "notifications")
        sender = Sender(mailer_of(settings), mail, renderer_of(settings, notification_key))
        attempts = Attempts(derive_key(secret, "attempts"), is_on=has_limits)
        verifier = Verifier(passwords, secrets, attempts, mail)
        events = EventReader(Cursors(derive_key(secret, "event-cursor")))
        follower = EventFollower(events, WATCHED)
        hub = Hub(events)
        exchange = Exchange()
        failed = asyncio.Event()
        preparation = _prepare(database, settings, passwords, events, failed)
        jobs = [relay(follower, hub), hub.watch(), exchange.run()]
        if has_jobs:
            # Nobody wants mail about the past of a database that was put in the place; figures are of all of it.
            jobs += [
                consume(projector.CONSUMER, events, follower, projector.project),
                consume(NOTIFICATIONS, events, follower, notify, skips_past=True),
                keep_filled(),
                sender.run(),
            ]
        async with AsyncExitStack() as closing:
            closing.push_async_callback(database.handle.client.close)
            closing.callback(passwords.close)
            await closing.enter_async_context(_at_work(preparation, jobs))
            closing.push_async_callback(sender.stop)
            await _first_try(hub.is_open, failed)
            closing.enter_context(_told_to_stop(hub.close))
            yield State(
                database=database,
                tokens=Tokens(secret),
                passwords=passwords,
                verifier=verifier,
                mail=mail,
                idempotency=Idempotency(derive_key(secret, "idempotency")),
                budgets=Budgets(exchange, is_on=has_limits),
                events=events,
                follower=follower,
                hub=hub,
                allowed_origins=frozenset(settings.allowed_origins),
                registration_is_open=settings.registration == "on",
                public_url=settings.public_url,
                notification_key=notification_key,
                webhook_key=settings.sendgrid_webhook_key,
            )

    return lifespan


def mailer_of(settings: Settings) -> Mailer:
    """Where mail goes by the settings; says so."""
    if settings.sendgrid_api_key is not None:
        logger.info("mail is sent by SendGrid", extra={"url": settings.sendgrid_api_url})
        key = settings.sendgrid_api_key.get_secret_value()
        return SendGridMailer(key, settings.sendgrid_api_url, settings.mail_from)
    if settings.mail_dir is None:
        logger.warning("mail is shown on standard output, which is for development; see SENDGRID_API_KEY, MAIL_DIR")
        return ConsoleMailer(settings.mail_from)
    directory = settings.mail_dir.absolute()
    logger.warning(
        "mail is put into files instead of sent, which is for development", extra={"directory": str(directory)}
    )
    return FileMailer(directory, settings.mail_from)


def renderer_of(settings: Settings, key: bytes) -> Render:
    """What makes the mails about tickets."""
    return partial(render, public_url=settings.public_url, mail_from=settings.mail_from, key=key)


def secret_box_of(settings: Settings) -> SecretBox:
    """With the keys of the settings; without any, with one made from the secret that signs the tokens."""
    keys = [key.get_secret_value().encode() for key in settings.encryption_keys]
    own = urlsafe_b64encode(derive_key(settings.jwt_secret.get_secret_value(), "secrets-at-rest"))
    # The own one last, so that what it wrote stays readable once there are keys.
    return SecretBox([*keys, own])


@asynccontextmanager
async def _at_work(
    preparation: Coroutine[None, None, None], jobs: Sequence[Coroutine[None, None, None]]
) -> AsyncIterator[None]:
    """The preparation, and after it the jobs, run beside the block and end with it."""
    preparing = asyncio.create_task(preparation)
    working = asyncio.create_task(_work(preparing, jobs))
    try:
        yield
    finally:
        working.cancel()
        preparing.cancel()
        # Not for ever: with the database hanging, a stream takes as long to close as any of its answers.
        await asyncio.wait({working, preparing}, timeout=STOP_S)


async def _work(preparing: asyncio.Task[None], jobs: Sequence[Coroutine[None, None, None]]) -> None:
    """What goes on beside the requests, as soon as the database is prepared."""
    try:
        await preparing
    except BaseException:
        for job in jobs:
            job.close()  # or each would be reported as never awaited
        raise
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(job)


@contextmanager
def _told_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` on the signals that end the server, before the server's own doing.

    It waits for open answers to end, and an event stream has no end of its own. Python hands signals to the main
    thread alone; elsewhere there are none to hear.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def heard(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)

    for number, previous in before.items():
        if callable(previous):  # a signal that nobody handles keeps its effect
            signal.signal(number, heard)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


async def _first_try(*outcomes: asyncio.Event) -> None:
    """Returns when the service is ready, or has found that it can't be yet."""
    waiting = [asyncio.create_task(outcome.wait()) for outcome in outcomes]
    await asyncio.wait(waiting, timeout=FIRST_TRY_S, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()


async def _prepare(
    database: Database, settings: Settings, passwords: PasswordPool, events: EventReader, failed: asyncio.Event
) -> None:
    """Tries until the database is there; requests get 503 until then. Sets `failed` when it has not been so far."""
    while True:
        try:
            await prepare(database.handle, DOCUMENTS)
            await adopt_numbers(NUMBERS, Ticket)
            await _open_first_admin(settings, passwords)
            for name in (projector.CONSUMER, NOTIFICATIONS):
                await begin_at_end(name, events)
            await count_for(COUNT_S)
        except PyMongoError as error:
            logger.warning("the database is not ready", extra={"reason": type(error).__name__})
        except Exception:  # whatever it is, a service that stays unready must say why
            logger.exception("the database could not be prepared")
        else:
            database.is_prepared = True
            logger.info("ready", extra={"database": database.handle.name})
            return
        failed.set()
        await asyncio.sleep(RETRY_S)


async def _open_first_admin(settings: Settings, passwords: PasswordPool) -> None:
    if not settings.admin_username or not settings.admin_password:
        return
    password = settings.admin_password.get_secret_value()
    try:
        is_new = await create_first_admin(settings.admin_username, password, passwords=passwords, now=now())
    except AppError as error:
        logger.error("ADMIN_USERNAME and ADMIN_PASSWORD make no account: %s", error.text)  # noqa: TRY400 - no traceback
        return
    if is_new:
        logger.info("the first Admin was created", extra={"username": settings.admin_username})
