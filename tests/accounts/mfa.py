"""Accounts with MFA, and the codes of their authenticators."""

from datetime import datetime, timedelta
from typing import Any

import pyotp
from httpx import AsyncClient, Response

from app.accounts.documents import User
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.callers import Caller
from tests.factories.accounts import PASSWORD

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code(moment: datetime | None = None, secret: str = SECRET, *, steps: int = 0) -> str:
    """The code of the step at that moment, or so many steps later."""
    return pyotp.TOTP(secret).at((moment or now()) + timedelta(seconds=30 * steps))


async def turn_on(user_id: Any, **fields: Any) -> None:
    """MFA with `SECRET`, as the original kept it."""
    change: Row = {"$set": {"mfaEnabled": True, "mfaSecret": SECRET, **fields}}
    await collection_of(User).update_one({"_id": user_id}, change)


async def set_up(caller: Caller) -> str:
    """The secret of a new set-up."""
    answer = await caller.post("/api/me/mfa/setup")
    assert answer.status_code == 200, answer.text
    secret: str = answer.json()["secret"]
    return secret


async def enable(caller: Caller) -> tuple[str, list[str]]:
    """MFA by the book: the secret and the recovery codes. The present step is used up by it."""
    secret = await set_up(caller)
    answer = await caller.post("/api/me/mfa/enable", json={"otp": code(secret=secret)})
    assert answer.status_code == 200, answer.text
    return secret, answer.json()["recoveryCodes"]


async def log_in(client: AsyncClient, username: str, **more: Any) -> Response:
    return await client.post("/api/login", json={"username": username, "password": PASSWORD, **more})


async def mfa_token(client: AsyncClient, username: str) -> str:
    answer = await log_in(client, username)
    assert (answer.status_code, answer.json()["code"]) == (401, "mfa_required")
    token: str = answer.json()["mfaToken"]
    return token


async def stored(user_id: Any) -> Row:
    row = await collection_of(User).find_one({"_id": user_id})
    assert row is not None
    return row
