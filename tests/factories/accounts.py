"""Accounts and sessions, stored without the quarter second that a password hash takes."""

import os
from datetime import timedelta
from itertools import count
from typing import Any

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.documents import Session, User, username_key
from app.accounts.roles import Role, role_of
from app.accounts.tokens import Tokens
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row

PASSWORD = "correct horse battery staple"
# Made with 12 rounds, as all are.
PASSWORD_HASH = "$2b$12$qovMNyQS48dAlQxHhgvvOeXcFN8xB4Q1pAI4Vf/Mmfpy8LLAxIiNO"
_serial = count(1)


def tokens() -> Tokens:
    return Tokens(os.environ["JWT_SECRET"])


async def add_user(role: Role = Role.CUSTOMER, **fields: Any) -> Row:
    """A stored user whose password is `PASSWORD`."""
    username = fields.pop("username", None) or f"user{next(_serial)}@example.com"
    row: Row = {
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
    await collection_of(User).insert_one(row)
    return row


async def add_session(user: Row, *, age: timedelta = timedelta(), **fields: Any) -> tuple[Actor, str]:
    """A stored session of the user that began so long ago, and a fresh access token of it."""
    session_id = ObjectId()
    moment = now() - age
    await collection_of(Session).insert_one(
        {
            "_id": session_id,
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
    )
    actor = Actor(user["_id"], user["username"], role_of(user), session_id, authenticated_at=moment)
    return actor, tokens().access(user["_id"], session_id, now())
