"""Accounts and sessions, stored without the quarter second that a password hash takes."""

import os
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.documents import ApiKey, Session, User, username_key
from app.accounts.keys import HINT_DIGITS, key_digest, new_key
from app.accounts.roles import Role, role_of
from app.accounts.tokens import Tokens
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row

PASSWORD = "correct horse battery staple"
# Made with 4 rounds, which cost nothing to check; and as the service makes them, for tests of what that costs.
PASSWORD_HASH = "$2b$04$IhwQhoCjB6Koop9Zh/M.JuyRRRUvRww.q3RNEAO.vodLS5TKeWnay"
COSTLY_HASH = "$2b$12$qovMNyQS48dAlQxHhgvvOeXcFN8xB4Q1pAI4Vf/Mmfpy8LLAxIiNO"
_serial = count(1)


def tokens() -> Tokens:
    return Tokens(os.environ["JWT_SECRET"])


def user_row(role: Role = Role.CUSTOMER, **fields: Any) -> Row:
    """A user whose password is `PASSWORD`."""
    username = fields.pop("username", None) or f"user{next(_serial)}@example.com"
    return {
        "_id": ObjectId(),
        "username": username,
        "usernameKey": username_key(username),
        "password": PASSWORD_HASH,
        "passwordVersion": 0,
        "role": role,
        "mfaEnabled": False,
        "email": None,
        "name": None,
        "active": True,
        "createdAt": now(),
        **fields,
    }


async def add_user(role: Role = Role.CUSTOMER, **fields: Any) -> Row:
    row = user_row(role, **fields)
    await collection_of(User).insert_one(row)
    return row


async def add_api_key(user_id: ObjectId) -> ObjectId:
    """A stored key of the user's, to read with."""
    key = new_key()
    row: Row = {
        "_id": ObjectId(),
        "userId": user_id,
        "name": "robot",
        "digest": key_digest(key),
        "hint": key[-HINT_DIGITS:],
        "scopes": ["read"],
        "createdAt": now(),
        "expiresAt": now() + timedelta(days=1),
        "lastUsedAt": None,
    }
    await collection_of(ApiKey).insert_one(row)
    key_id: ObjectId = row["_id"]
    return key_id


def session_row(user: Row, *, age: timedelta = timedelta(), **fields: Any) -> Row:
    """A session of the user that began so long ago."""
    moment = now() - age
    return {
        "_id": ObjectId(),
        "userId": user["_id"],
        "passwordVersion": user.get("passwordVersion", 0),
        "generation": 0,
        "rotatedAt": moment,
        "createdAt": moment,
        "authenticatedAt": moment,
        "lastUsedAt": moment,
        "expiresAt": now() + timedelta(days=1),
        "device": None,
        "address": None,
        **fields,
    }


def signed_in(user: Row, session: Row) -> tuple[Actor, str]:
    """Whom the session stands for, and a fresh access token of it."""
    moment: datetime = session["authenticatedAt"]
    actor = Actor(user["_id"], user["username"], role_of(user), session["_id"], authenticated_at=moment)
    return actor, tokens().access(user["_id"], session["_id"], now())


async def add_session(user: Row, *, age: timedelta = timedelta(), **fields: Any) -> tuple[Actor, str]:
    """A stored session of the user that began so long ago, and a fresh access token of it."""
    session = session_row(user, age=age, **fields)
    await collection_of(Session).insert_one(session)
    return signed_in(user, session)
