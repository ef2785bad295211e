"""Guessing passwords and codes: slower with each failure, by account, address and in all, and nobody locked out."""

import asyncio
import hashlib
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.accounts.actor import Origin
from app.accounts.commands import verification
from app.accounts.commands.passwords import reset_password
from app.accounts.commands.people import create_user, register
from app.accounts.commands.signin import complete_sign_in, reauthenticate, sign_in
from app.accounts.commands.verification import Verifier, where
from app.accounts.documents import PasswordReset, User
from app.accounts.errors import InvalidCredentials, InvalidOtp, InvalidRecoveryCode, MfaRequired
from app.accounts.passwords import MAX_PENDING, PasswordPool, Place
from app.accounts.recovery import code_digest
from app.accounts.roles import Role
from app.accounts.schemas import Credentials, MfaAnswer
from app.platform.attempts import Attempts, FailureRow, Rule
from app.platform.clock import now
from app.platform.errors import TooManyRequests
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.accounts.mfa import SECRET, code
from tests.conftest import Started
from tests.factories.accounts import PASSWORD, add_session, add_user, tokens
from tests.live import eventually

HERE, ELSEWHERE = Origin("curl", "198.51.100.1"), Origin("curl", "203.0.113.9")
FREE = 10


@pytest.fixture
def verifier(app: Started, database: None) -> Verifier:
    own: Verifier = app.state["verifier"]
    return Verifier(own.passwords, own.secrets, Attempts(b"throttling", is_on=True), own.mail)


@pytest.fixture
async def owner(database: None) -> Row:
    return await add_user(username="owner")


class Person:
    """Somebody who tries at times of our choosing."""

    def __init__(self, verifier: Verifier, moment: datetime, name: str = "owner") -> None:
        self.verifier = verifier
        self.now = moment
        self.name = name

    async def tries(self, password: str, origin: Origin = HERE, **more: str) -> str:
        """What came of it: `in`, the refusal's code, or the seconds to wait."""
        credentials = Credentials.parse({"username": self.name, "password": password, **more})
        try:
            await sign_in(credentials, origin, verifier=self.verifier, tokens=tokens(), now=self.now)
        except TooManyRequests as error:
            return error.headers["Retry-After"]
        except (InvalidCredentials, InvalidOtp, MfaRequired) as error:
            return error.code
        return "in"

    async def guesses(self, times: int, origin: Origin = HERE, **more: str) -> Counter[str]:
        return Counter([await self.tries("wrong", origin, **more) for _ in range(times)])

    def waits(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def person(verifier: Verifier, owner: Row) -> Person:
    return Person(verifier, now())


async def link_of(user: Row, moment: datetime) -> str:
    """The token of a link to a new password."""
    token = "pr_" + "x" * 43
    link = {"digest": hashlib.sha256(token.encode()).digest(), "expiresAt": moment + timedelta(hours=1)}
    await collection_of(PasswordReset).insert_one({"_id": user["_id"], **link})
    return token


async def failures() -> int:
    rows = await collection_of(FailureRow).find().to_list()
    return sum(row["failures"] for row in rows)


class TestPasswords:
    async def test_wait_longer_with_each_failure(self, person: Person) -> None:
        assert await person.guesses(FREE) == {"invalid_credentials": FREE}

        for seconds in (1, 2, 4, 8, 16):
            assert await person.tries("wrong") == "invalid_credentials"
            # Also the right one, or the answer would tell which it is.
            assert [await person.tries(password) for password in ("wrong", PASSWORD)] == [str(seconds)] * 2
            person.waits(seconds)

    async def test_never_lock_for_good(self, person: Person) -> None:
        for _ in range(40):
            await person.tries("wrong")
            person.waits(15 * 60)

        assert await person.tries(PASSWORD) == "in"
        # And the slate is clean.
        assert await person.guesses(FREE) == {"invalid_credentials": FREE}

    async def test_the_owner_can_sign_in_from_elsewhere(self, person: Person) -> None:
        await person.guesses(FREE + 1)
        assert await person.tries(PASSWORD) == "1"

        assert await person.tries(PASSWORD, ELSEWHERE) == "in"
        assert await person.tries(PASSWORD) == "1"

    async def test_unknown_names_are_treated_alike(self, verifier: Verifier, person: Person) -> None:
        stranger = Person(verifier, person.now, "nobody")

        assert await stranger.guesses(FREE + 2) == {"invalid_credentials": FREE + 1, "1": 1}

    async def test_parallel_guesses_are_no_way_around(self, person: Person) -> None:
        everything: Counter[str] = Counter()
        for _ in range(4):
            everything += Counter(await asyncio.gather(*(person.tries("wrong") for _ in range(FREE))))

        assert everything == {"invalid_credentials": FREE + 1, "1": 4 * FREE - FREE - 1}

    async def test_guesses_from_everywhere_slow_the_account_but_not_where_it_is_signed_in(
        self, person: Person, owner: Row, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verification, "_PASSWORD_ACCOUNT", Rule("account", free=20, max_delay=timedelta(minutes=5)))
        await add_session(owner, address=ELSEWHERE.address)
        for number in range(21):
            assert await person.tries("wrong", Origin(None, f"192.0.2.{number}")) == "invalid_credentials"

        assert await person.tries(PASSWORD, HERE) == "1"
        assert await person.tries(PASSWORD, ELSEWHERE) == "in"
        person.waits(1)
        assert await person.tries(PASSWORD, HERE) == "in"

    async def test_a_network_of_ipv6_is_one_address(self, person: Person) -> None:
        for number in range(FREE + 1):
            assert await person.tries("wrong", Origin(None, f"2001:db8::{number:x}")) == "invalid_credentials"

        assert await person.tries(PASSWORD, Origin(None, "2001:db8::ffff")) == "1"
        assert await person.tries(PASSWORD, Origin(None, "2001:db8:0:1::1")) == "in"

    async def test_one_address_and_many_accounts(self, verifier: Verifier, person: Person) -> None:
        await asyncio.gather(*(add_user(username=f"user{n}") for n in range(10)))
        guessers = [Person(verifier, person.now, f"user{n}") for n in range(10)]
        for guesser in guessers[:9]:
            assert await guesser.guesses(5) == {"invalid_credentials": 5}
            # A good sign-in of one's own in between wins nothing.
            assert await person.tries(PASSWORD) == "in"

        assert await guessers[9].guesses(7) == {"invalid_credentials": 6, "1": 1}
        assert await person.tries(PASSWORD) == "1"
        assert await person.tries(PASSWORD, ELSEWHERE) == "in"

    async def test_all_together(self, person: Person, owner: Row, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verification, "_PASSWORD_ALL", Rule("all", free=5, max_delay=timedelta(seconds=10)))
        await add_session(owner, address=ELSEWHERE.address)
        for number in range(6):
            stranger = Person(person.verifier, person.now, f"nobody{number}")
            assert await stranger.tries("wrong", Origin(None, f"192.0.2.{number}")) == "invalid_credentials"

        assert await person.tries(PASSWORD, HERE) == "1"
        assert await person.tries(PASSWORD, ELSEWHERE) == "in"

    async def test_who_is_turned_away_for_want_of_a_thread_has_not_failed(
        self, costly_passwords: None, person: Person
    ) -> None:
        busy = [asyncio.ensure_future(person.verifier.passwords.hash("x", str(n))) for n in range(MAX_PENDING)]
        await asyncio.sleep(0)

        assert (await person.tries(PASSWORD)).isdigit()

        assert await failures() == 0
        await asyncio.gather(*busy)

    async def test_who_loses_their_place_to_others_has_not_failed(self, costly_passwords: None, person: Person) -> None:
        pool = person.verifier.passwords
        neighbours = [asyncio.ensure_future(pool.hash("x", where(HERE))) for _ in range(MAX_PENDING - 1)]
        await asyncio.sleep(0)
        trying = asyncio.ensure_future(person.tries(PASSWORD, HERE))
        await eventually(lambda: len(pool._taken) == MAX_PENDING and pool._taken[-1]._work is not None)
        assert await failures() > 0

        assert await pool.hash("x", "another")

        assert (await trying).isdigit()
        assert await failures() == 0
        await asyncio.gather(*neighbours)

    @pytest.mark.parametrize("way", ["sign in", "register", "reset", "reauthenticate", "create"])
    async def test_a_thread_is_taken_in_the_name_of_who_asks(self, person: Person, owner: Row, way: str) -> None:
        asked_for: list[str] = []

        class Noting(PasswordPool):
            def place(self, caller: str) -> Place:
                asked_for.append(caller)
                return super().place(caller)

        pool = Noting()
        verifier = replace(person.verifier, passwords=pool)
        origin = Origin(None, "2001:db8::7")
        actor, _ = await add_session(owner)
        match way:
            case "sign in":
                await Person(verifier, person.now).tries(PASSWORD, origin)
            case "register":
                body = {"username": "new", "password": PASSWORD}
                await register(body, origin, is_open=True, passwords=pool, now=person.now)
            case "reset":
                link = await link_of(owner, person.now)
                body = {"token": link, "password": "a new and long passphrase"}
                await reset_password(body, origin, verifier=verifier, now=person.now)
            case "reauthenticate":
                await reauthenticate(actor, {"password": PASSWORD}, origin, verifier=verifier, now=person.now)
            case "create":
                body = {"username": "new", "password": PASSWORD}
                boss = replace(actor, role=Role.ADMIN)
                await create_user(boss, body, origin, passwords=pool, now=person.now)
        pool.close()

        assert asked_for == [str(owner["_id"]) if way in ("reauthenticate", "create") else "2001:db8::/64"]

    async def test_a_good_sign_in_leaves_nothing_counted(self, person: Person) -> None:
        for _ in range(3):
            assert await person.tries(PASSWORD) == "in"

        assert await failures() == 0

    async def test_a_new_password_by_mail_clears_the_way(self, person: Person, owner: Row) -> None:
        await person.guesses(FREE + 1)
        body = {"token": await link_of(owner, person.now), "password": "a new and long passphrase"}
        await reset_password(body, HERE, verifier=person.verifier, now=person.now)

        assert await person.tries("a new and long passphrase") == "in"


class TestInMidSession:
    async def test_proofs_of_identity_count_as_sign_ins_do(self, person: Person, owner: Row) -> None:
        actor, _ = await add_session(owner)

        async def prove(password: str) -> None:
            proof = {"password": password}
            await reauthenticate(actor, proof, HERE, verifier=person.verifier, now=person.now)

        for _ in range(FREE + 1):
            with pytest.raises(InvalidCredentials):
                await prove("wrong")

        with pytest.raises(TooManyRequests):
            await prove(PASSWORD)
        assert await person.tries(PASSWORD) == "1"


class TestCodes:
    @pytest.fixture(autouse=True)
    async def _with_mfa(self, owner: Row) -> None:
        on = {"mfaEnabled": True, "mfaSecret": SECRET, "recoveryCodes": [code_digest("7K2M-04QX-9ZTB-H1CD")]}
        await collection_of(User).update_one({"_id": owner["_id"]}, {"$set": on})

    async def test_are_counted_per_account(self, person: Person) -> None:
        for _ in range(FREE + 1):
            assert await person.tries(PASSWORD, otp="000000") == "invalid_otp"

        assert await person.tries(PASSWORD, otp=code(person.now)) == "1"
        assert await person.tries(PASSWORD, ELSEWHERE, otp=code(person.now)) == "in"
        person.waits(1)
        assert await person.tries(PASSWORD, otp=code(person.now, steps=1)) == "in"

    async def test_of_every_kind_and_by_either_way(self, person: Person, owner: Row) -> None:
        for number in range(FREE + 1):
            token = tokens().mfa(owner["_id"], 0, person.now)
            wrong = {"otp": "000000"} if number % 2 else {"recoveryCode": "0000-0000-0000-0000"}
            answer = MfaAnswer.parse({"mfaToken": token, **wrong})
            with pytest.raises((InvalidOtp, InvalidRecoveryCode)):
                await complete_sign_in(answer, HERE, verifier=person.verifier, tokens=tokens(), now=person.now)

        answer = MfaAnswer.parse(
            {"mfaToken": tokens().mfa(owner["_id"], 0, person.now), "recoveryCode": "7K2M-04QX-9ZTB-H1CD"}
        )
        with pytest.raises(TooManyRequests):
            await complete_sign_in(answer, HERE, verifier=person.verifier, tokens=tokens(), now=person.now)
        assert await person.tries(PASSWORD, otp=code(person.now)) == "1"
        # The recovery code is not lost by that.
        await complete_sign_in(answer, ELSEWHERE, verifier=person.verifier, tokens=tokens(), now=person.now)

    async def test_spread_over_addresses_are_counted_as_well(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verification, "_CODE_ACCOUNT", Rule("codes", free=12, max_delay=timedelta(minutes=15)))
        for number in range(13):
            assert await person.tries(PASSWORD, Origin(None, f"192.0.2.{number}"), otp="000000") == "invalid_otp"

        assert await person.tries(PASSWORD, HERE, otp=code(person.now)) == "1"

    async def test_a_right_password_alone_is_no_code(self, person: Person) -> None:
        for _ in range(FREE + 5):
            assert await person.tries(PASSWORD) == "mfa_required"

        assert await failures() == 0
