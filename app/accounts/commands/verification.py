"""Whether somebody is who they say: passwords, one-time codes and recovery codes, and how often one may be wrong.

A guess is counted before it is checked, and taken back if it was right, so that a hundred guesses at once are not
checked before the first is counted. What is counted: this account from this address, which is where a person errs and
where the delays begin; the account from anywhere, the address for any account, and all together, which are what
guessers spread their tries over. The two that cover other people's addresses do not hold for an address at which the
account has a session: so nobody can be locked out of where they are signed in, whatever others try elsewhere.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import Session, User, username_key
from app.accounts.errors import InvalidCredentials, InvalidOtp, InvalidRecoveryCode, MfaRequired
from app.accounts.messages import recovery_code_used
from app.accounts.passwords import PasswordPool, Place
from app.accounts.queries import get_user
from app.accounts.recovery import code_digest
from app.accounts.schemas import Proof, SecondFactor
from app.accounts.totp import matching_step
from app.mail.outbox import Outbox
from app.platform.attempts import Attempts, Rule
from app.platform.errors import TooManyRequests
from app.platform.mongo import collection_of, transaction
from app.platform.ratelimit import caller_of
from app.platform.secretbox import SecretBox
from app.platform.wire import Row

_LONGEST = timedelta(minutes=15)
_PASSWORD_HERE = Rule("password: account and address", free=10, max_delay=_LONGEST)
_PASSWORD_ACCOUNT = Rule("password: account", free=100, max_delay=timedelta(minutes=5))
_PASSWORD_ADDRESS = Rule("password: address", free=50, max_delay=_LONGEST)
_PASSWORD_ALL = Rule("password: all", free=2000, max_delay=timedelta(seconds=10))
_CODE_HERE = Rule("code: account and address", free=10, max_delay=_LONGEST)
_CODE_ACCOUNT = Rule("code: account", free=50, max_delay=_LONGEST)

Result = TypeVar("Result")
Counted = list[tuple[Rule, str]]


@dataclass(frozen=True, slots=True)
class Verifier:
    """What checking an identity takes; one per process."""

    passwords: PasswordPool
    secrets: SecretBox
    attempts: Attempts
    mail: Outbox

    async def check_password(
        self, username: str, user: Row | None, password: str, origin: Origin, now: datetime, place: Place
    ) -> Row:
        """Answers the user, if the password is theirs. Costs the same whether there is such a user or not.

        One who is switched off has no right password. `place` is in the queue for the check.
        Raises `InvalidCredentials`, `TooManyRequests`.
        """
        here = _password_here(username, origin)
        elsewhere: Counted = [(_PASSWORD_ADDRESS, where(origin))]
        if not await self._is_known(user["_id"] if user else ObjectId(), origin):
            elsewhere += [(_PASSWORD_ACCOUNT, username_key(username)), (_PASSWORD_ALL, "")]
        await self.attempts.begin([*here, *elsewhere], now)
        try:
            is_right = await place.check(password, user.get("password") if user else None)
        except TooManyRequests:
            await self.attempts.take_back([*here, *elsewhere], now)
            raise
        if user is None or not is_right or user.get("active") is False:
            raise InvalidCredentials
        await self.attempts.forget(here)
        await self.attempts.succeeded(elsewhere, now)
        return user

    async def forgive(self, username: str, origin: Origin) -> None:
        """Forgets the passwords that were wrong here, for who has proved by other means whose account it is."""
        await self.attempts.forget(_password_here(username, origin))

    async def prove(
        self,
        actor: Actor,
        proof: Proof,
        origin: Origin,
        now: datetime,
        change: Callable[[AsyncClientSession], Awaitable[Result]],
    ) -> Result:
        """What `change` answers, once a signed-in user has proved again who they are; in one transaction with the code.

        Raises `InvalidCredentials`, `MfaRequired`, `InvalidOtp`, `InvalidRecoveryCode`, `TooManyRequests`.
        """
        user = await self.check_own_password(actor, proof.password, origin, now)
        has_mfa = user.get("mfaEnabled") is True
        if has_mfa and proof.factor is None:
            raise MfaRequired
        async with _failure_recorded(actor, origin, now):
            return await self.with_second_factor(user, proof.factor if has_mfa else None, origin, now, change)

    async def check_own_password(self, actor: Actor, password: str, origin: Origin, now: datetime) -> Row:
        """Answers the stored user, if a signed-in one knows the password. Raises as `check_password` does."""
        with self.passwords.place(str(actor.id)) as place:
            user = await get_user(actor.id)
            async with _failure_recorded(actor, origin, now):
                return await self.check_password(actor.username, user, password, origin, now, place)

    async def with_second_factor(
        self,
        user: Row,
        factor: SecondFactor | None,
        origin: Origin,
        now: datetime,
        change: Callable[[AsyncClientSession], Awaitable[Result]],
    ) -> Result:
        """What `change` answers, in one transaction with the use of the code, so that no code is lost for nothing.

        Raises `InvalidOtp`, `InvalidRecoveryCode`, `TooManyRequests`, or what `change` raises.
        """
        if factor is None:
            return await transaction(User, change)

        async def body(session: AsyncClientSession) -> Result:
            if factor.recovery_code is None:
                await self._use_otp(user, factor.otp or "", now, session)
            else:
                await self._use_recovery_code(user, factor.recovery_code, session)
                row = audit_row(AuditType.MFA_RECOVERY_CODE_USED, at=now, origin=origin, target=user)
                await record_audit(row, session)
                await self.mail.post(recovery_code_used(user, origin, now), session)
            return await change(session)

        counted = await self.begin_code(user, origin, now)
        result = await transaction(User, body)
        await self.code_was_right(counted, now)
        return result

    async def begin_code(self, user: Row, origin: Origin, now: datetime) -> Counted:
        """Counts one try of a code; what this answers is for `code_was_right`. Raises `TooManyRequests`."""
        counted: Counted = [(_CODE_HERE, f"{user['_id']} {where(origin)}")]
        if not await self._is_known(user["_id"], origin):
            counted.append((_CODE_ACCOUNT, str(user["_id"])))
        await self.attempts.begin(counted, now)
        return counted

    async def code_was_right(self, counted: Counted, now: datetime) -> None:
        here, *elsewhere = counted
        await self.attempts.forget([here])
        await self.attempts.succeeded(elsewhere, now)

    async def _use_otp(self, user: Row, otp: str, now: datetime, session: AsyncClientSession) -> None:
        stored = user.get("mfaSecret")
        secret = self.secrets.open(stored) if isinstance(stored, str) else None
        step = matching_step(secret or "", otp, now)
        if secret is None or step is None:
            raise InvalidOtp
        change: Row = {"mfaLastStep": step}
        if not self.secrets.is_current(str(stored)):  # from the original's database, or by an older key
            change["mfaSecret"] = self.secrets.seal(secret)
        # Compare-and-set: of two who send one code at the same time only one is let in.
        unused: Row = {"$or": [{"mfaLastStep": None}, {"mfaLastStep": {"$lt": step}}]}
        same: Row = {"_id": user["_id"], "mfaEnabled": True, "mfaSecret": stored}
        outcome = await collection_of(User).update_one({**same, **unused}, {"$set": change}, session=session)
        if outcome.matched_count == 0:
            raise InvalidOtp

    async def _use_recovery_code(self, user: Row, code: str, session: AsyncClientSession) -> None:
        digest = code_digest(code)
        outcome = await collection_of(User).update_one(
            {"_id": user["_id"], "mfaEnabled": True, "recoveryCodes": digest},
            {"$pull": {"recoveryCodes": digest}},
            session=session,
        )
        if outcome.matched_count == 0:
            raise InvalidRecoveryCode

    async def _is_known(self, user_id: ObjectId, origin: Origin) -> bool:
        """Whether this account has a session from this address."""
        row = await collection_of(Session).find_one({"userId": user_id, "address": origin.address}, {"_id": 1})
        return row is not None and origin.address is not None


@asynccontextmanager
async def _failure_recorded(actor: Actor, origin: Origin, now: datetime) -> AsyncIterator[None]:
    """The audit log is told when a signed-in user can't prove who they are."""
    try:
        yield
    except (InvalidCredentials, InvalidOtp, InvalidRecoveryCode) as error:
        event, details = AuditType.REAUTHENTICATION_FAILED, {"reason": error.code}
        own = {"_id": actor.id, "username": actor.username, "role": actor.role}
        await record_audit(audit_row(event, at=now, origin=origin, actor=actor, target=own, details=details))
        raise


def _password_here(username: str, origin: Origin) -> Counted:
    return [(_PASSWORD_HERE, f"{username_key(username)} {where(origin)}")]


def where(origin: Origin) -> str:
    """Whose address it is; with IPv6 one customer has as many as they like."""
    return caller_of(origin.address) if origin.address else "unknown"
