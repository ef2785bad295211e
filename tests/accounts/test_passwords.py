"""Password hashes old and new, the rules for new passwords, and a pool that neither blocks nor piles up."""

import asyncio
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import bcrypt
import pytest
from httpx import AsyncClient, Response
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.accounts import passwords
from app.accounts.documents import User
from app.accounts.passwords import MAX_PENDING, NICENESS, ROUNDS, PasswordPool, weakness
from app.platform.errors import TooManyRequests
from app.platform.mongo import collection_of
from tests.factories.accounts import COSTLY_HASH, PASSWORD, add_user

SALT_AND_HASH = COSTLY_HASH.removeprefix("$2b$12$")
# What an old database, or somebody who can write to it, may hold where a hash belongs.
BROKEN: dict[str, Any] = {
    "missing": None,
    "empty": "",
    "a number": 7,
    "a document": {"$gt": ""},
    "a list": ["$2b$12$" + SALT_AND_HASH],
    "bytes": COSTLY_HASH.encode(),
    "the password itself": PASSWORD,
    "cut": COSTLY_HASH[:-1],
    "longer": COSTLY_HASH + "a",
    "a salt alone": COSTLY_HASH[:29],
    "a line": COSTLY_HASH + "\n",
    "blanks": f" {COSTLY_HASH} ",
    "a NUL inside": COSTLY_HASH[:40] + "\x00" + COSTLY_HASH[41:],
    "a NUL behind": COSTLY_HASH + "\x00",
    "a foreign letter": COSTLY_HASH[:40] + "!" + COSTLY_HASH[41:],
    "beyond ASCII": COSTLY_HASH[:40] + "é" + COSTLY_HASH[41:],
    "stray bits in the salt": COSTLY_HASH[:28] + "z" + COSTLY_HASH[29:],
    "2^31 rounds": "$2b$31$" + SALT_AND_HASH,
    "2^16 rounds": "$2b$16$" + SALT_AND_HASH,
    "too few rounds": "$2b$03$" + SALT_AND_HASH,
    "no number of rounds": "$2b$+4$" + SALT_AND_HASH,
    "a digit beyond ASCII": "$2b$1\u0662$" + SALT_AND_HASH,
    "no version": "$2$12$" + SALT_AND_HASH,
    "of a faulty program": "$2x$12$" + SALT_AND_HASH,
    "of no program": "$2c$12$" + SALT_AND_HASH,
}


@pytest.fixture
def pool(costly_passwords: None) -> Iterator[PasswordPool]:
    pool = PasswordPool()
    yield pool
    pool.close()


def quick_hash(password: bytes, prefix: str = "2b") -> str:
    """As the original's library would have made it, with few rounds and cut at 72 bytes."""
    hashed = bcrypt.hashpw(password[:72], bcrypt.gensalt(4)).decode()
    return hashed.replace("$2b$", f"${prefix}$", 1)


async def matches(password: str, stored: object) -> bool:
    """In a thread, as in the service: a check of 12 rounds takes its time."""
    return await asyncio.to_thread(passwords.matches, password, stored)


class TestWeakness:
    @pytest.mark.parametrize(
        "password",
        [
            *["", "short", "1234567", "ääääää7", " " * 8, "aaaaaaaa", "z" * 40, "!!!!!!!!!!", "\uff10" * 8],
            *["password", "Password1", "PASSWORD123", "passw0rd", " password ", "password12", "PassWord1234"],
            *["12345678", "123456789", "1234567890", "12345678910", "87654321", "123123123", "11223344", "147258369"],
            *["qwertyui", "qwertyuiop", "qwerty123", "1q2w3e4r", "1qaz2wsx", "zaq12wsx", "asdfasdf", "qwer1234"],
            *["iloveyou", "sunshine", "princess1", "football", "baseball", "superman", "trustno1", "starwars"],
            *["letmein1", "welcome123", "admin123", "administrator", "changeme", "computer", "whatever", "1234qwer"],
            *["abcd1234", "a1b2c3d4", "aa123456", "butterfly", "liverpool", "default1", "basketball", "jennifer"],
            *["0987654321", "9876543210", "12341234", "abcdefgh", "HGFEDCBA", "13579135", "123456123456", "00000000"],
            *["carol@example.com", "CAROL@example.com ", "x1" * 37, "é7" * 25],
        ],
    )
    def test_refuses(self, password: str) -> None:
        assert weakness(password, "carol@example.com") is not None

    @pytest.mark.parametrize(
        "password",
        [
            *[PASSWORD, "kV8#pqzr", "x1" * 36, "é8" * 24, "пароль-на-век", "tr0ub4dor&3", "        a8"],
            *["my password", "passwords and more", "2468-1357", "carol@example.com!"],
        ],
    )
    def test_accepts(self, password: str) -> None:
        assert weakness(password, "carol@example.com") is None

    def test_knows_the_common_ones_by_a_list_that_leaves_little_in_memory(self) -> None:
        assert 30_000 < len(passwords._COMMON) < 60_000
        assert {len(word) >= 8 and word == word.lower() for word in passwords._COMMON} == {True}
        assert not any(name.startswith("zxcvbn") for name in sys.modules)

    def test_counts_characters_below_and_bytes_above(self) -> None:
        assert weakness("äöüßäöü1", "carol") is None  # 8 characters
        assert weakness("ä1" * 24, "carol") is None  # 72 bytes
        assert weakness("ä1" * 24 + "x", "carol") == "must have at most 72 bytes"


class TestMatches:
    @pytest.mark.parametrize("prefix", ["2a", "2b", "2y"])
    async def test_reads_the_hashes_of_other_libraries(self, prefix: str) -> None:
        stored = quick_hash(PASSWORD.encode(), prefix)

        assert await matches(PASSWORD, stored)
        assert not await matches(PASSWORD + "x", stored)
        assert not await matches(PASSWORD.upper(), stored)

    @pytest.mark.parametrize("password", ["x" * 73, "x" * 500, "ä" * 36 + "y", "a" + "ä" * 50])
    async def test_old_passwords_over_72_bytes_count_to_there(self, password: str) -> None:
        stored = quick_hash(password.encode())

        assert await matches(password, stored)
        assert not await matches("-" + password, stored)

    @pytest.mark.parametrize(
        "stored",
        [
            *[stored for stored in BROKEN.values() if isinstance(stored, str)],
            *[
                "x",
                "plain text",
                PASSWORD,
                "$2b$",
                "$2b$12$",
                "$argon2id$v=19$m=1,t=1,p=1$YQ$YQ",
                "é" * 60,
                "\ud800" * 60,
            ],
        ],
    )
    async def test_a_broken_hash_matches_nothing(self, stored: str) -> None:
        assert not await matches(PASSWORD, stored)

    @pytest.mark.parametrize("stored", [None, 7, True, 1.5, b"$2b$", [], {"$ne": ""}, COSTLY_HASH.encode()], ids=repr)
    async def test_what_is_no_text_matches_nothing(self, stored: object) -> None:
        assert not await matches(PASSWORD, stored)

    @pytest.mark.parametrize("stored", [None, "", "$2b$31$" + SALT_AND_HASH, "\x00" * 60, 7], ids=repr)
    async def test_what_is_no_hash_costs_what_one_of_ours_does(
        self, monkeypatch: pytest.MonkeyPatch, stored: object
    ) -> None:
        checked: list[bytes] = []

        def note(_password: bytes, hashed: bytes) -> bool:
            checked.append(hashed)
            return True  # even then

        monkeypatch.setattr(bcrypt, "checkpw", note)

        assert not await matches(PASSWORD, stored)
        assert checked == [passwords._NOBODY]

    @given(st.from_regex(passwords._SOUND_HASH, fullmatch=True).map(lambda text: f"{text[:4]}04{text[6:]}"))
    @settings(deadline=None, max_examples=200)
    def test_bcrypt_bears_whatever_counts_as_sound(self, stored: str) -> None:
        assert not passwords.matches(PASSWORD, stored)

    async def test_what_stands_in_for_nobody_costs_what_a_user_costs(self, costly_passwords: None) -> None:
        assert ROUNDS == passwords.ROUNDS == 12
        assert passwords._NOBODY.startswith(b"$2b$12$")
        assert len(passwords._NOBODY) == 60
        assert (
            await asyncio.to_thread(bcrypt.checkpw, b"anything", passwords._NOBODY) is False
        )  # a sound hash, or this would raise


class TestSignIn:
    @pytest.mark.parametrize("kind", BROKEN)
    async def test_a_broken_hash_is_a_wrong_password(self, nobody: AsyncClient, kind: str) -> None:
        user = await add_user(username="old", password=BROKEN[kind])

        answers = [await log_in(nobody, "old", given) for given in (PASSWORD, "")]

        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(401, "invalid_credentials")] * 2
        assert await collection_of(User).find_one({"_id": user["_id"]}) == user

    async def test_so_is_none_at_all(self, nobody: AsyncClient) -> None:
        await collection_of(User).insert_one({"username": "old"})

        answer = await log_in(nobody, "old", PASSWORD)

        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")

    @pytest.mark.parametrize("prefix", ["2a", "2b", "2y"])
    @pytest.mark.parametrize("password", [PASSWORD, "x" * 73, "ä" * 40, "a" + "ä" * 50], ids=len)
    async def test_the_hashes_of_the_original_let_in(self, nobody: AsyncClient, prefix: str, password: str) -> None:
        await collection_of(User).insert_one({"username": "old", "password": quick_hash(password.encode(), prefix)})

        assert (await log_in(nobody, "old", password)).status_code == 200
        assert (await log_in(nobody, "old", "-" + password)).status_code == 401


async def log_in(client: AsyncClient, username: str, password: str) -> Response:
    return await client.post("/api/login", json={"username": username, "password": password})


class TestPool:
    async def test_makes_hashes_of_twelve_rounds(self, pool: PasswordPool) -> None:
        hashed = await pool.hash(PASSWORD, "carol")

        assert re.fullmatch(r"\$2b\$12\$.{53}", hashed)
        assert await check(pool, PASSWORD, hashed)
        assert not await check(pool, "another password", hashed)

    async def test_nobody_has_no_password(self, pool: PasswordPool) -> None:
        assert not await check(pool, PASSWORD, None)
        assert not await check(pool, "", None)

    async def test_the_event_loop_goes_on_meanwhile(self, pool: PasswordPool) -> None:
        turns = 0
        hashing = asyncio.ensure_future(pool.hash(PASSWORD, "carol"))

        while not hashing.done():
            await asyncio.sleep(0)
            turns += 1

        # A blocked loop gets two or three; a quarter of a second gives thousands.
        assert turns > 50

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities")
    async def test_gives_way_to_requests(self, pool: PasswordPool, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []

        def hashed(*_: object) -> bytes:
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return COSTLY_HASH.encode()

        monkeypatch.setattr(bcrypt, "hashpw", hashed)
        await pool.hash(PASSWORD, "carol")

        mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        assert seen == [max(NICENESS, mine)]

    async def test_refuses_more_than_it_can_serve_soon_and_recovers(self, pool: PasswordPool) -> None:
        stored = quick_hash(PASSWORD.encode())
        refused = refusals()
        all_places = [asyncio.ensure_future(pool.hash(PASSWORD, str(n))) for n in range(MAX_PENDING)]
        await asyncio.sleep(0)

        with pytest.raises(TooManyRequests) as refusal:
            await check(pool, PASSWORD, stored)

        assert len(all_places) == 10
        assert int(refusal.value.headers["Retry-After"]) >= 1
        assert refusals() == refused + 1
        assert all(await asyncio.gather(*all_places))
        assert await check(pool, PASSWORD, stored)

    async def test_who_has_the_most_places_loses_them_to_others(self, pool: PasswordPool) -> None:
        refused = refusals()
        mallory = [asyncio.ensure_future(pool.hash(PASSWORD, "mallory")) for _ in range(MAX_PENDING + 3)]
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(pool.hash(PASSWORD, name)) for name in ("carol", "dave", "carol")]
        mallory.append(asyncio.ensure_future(pool.hash(PASSWORD, "mallory")))

        assert all(await asyncio.gather(*others))
        theirs = await asyncio.gather(*mallory, return_exceptions=True)

        # Three too many at first, and one later; of those who waited the last three made room.
        assert [type(outcome) for outcome in theirs] == [str] * 7 + [TooManyRequests] * 7
        assert refusals() == refused + 7
        assert not pool._taken
        assert await pool.hash(PASSWORD, "mallory")

    async def test_nobody_loses_a_place_to_who_has_as_many(self, pool: PasswordPool) -> None:
        names = [name for name in ("a", "b", "c", "d", "e") for _ in range(2)]
        all_places = [asyncio.ensure_future(pool.hash(PASSWORD, name)) for name in names]
        await asyncio.sleep(0)

        with pytest.raises(TooManyRequests):
            await pool.hash(PASSWORD, "a")

        first = asyncio.ensure_future(pool.hash(PASSWORD, "f"))
        outcomes = await asyncio.gather(first, *all_places, return_exceptions=True)
        assert isinstance(outcomes[0], str)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["TooManyRequests"] + ["str"] * 10

    async def test_a_place_that_is_lost_before_it_was_used_is_none(self, pool: PasswordPool) -> None:
        with ExitStack() as places:
            taken = [places.enter_context(pool.place("mallory")) for _ in range(MAX_PENDING)]
            assert await pool.hash(PASSWORD, "carol")
            with pytest.raises(TooManyRequests):
                await taken[-1].hash(PASSWORD)
            assert await taken[0].hash(PASSWORD)
        assert not pool._taken

    async def test_who_gives_up_waiting_still_takes_a_place_until_the_thread_is_done(self, pool: PasswordPool) -> None:
        all_places = [asyncio.ensure_future(pool.hash(PASSWORD, str(n))) for n in range(MAX_PENDING)]
        await asyncio.sleep(0)

        for place in all_places[2:]:
            place.cancel()
        await asyncio.sleep(0)

        with pytest.raises(TooManyRequests):
            await pool.hash(PASSWORD, "carol")
        await asyncio.gather(*all_places, return_exceptions=True)

    async def test_an_error_in_the_thread_gives_its_place_back(self, pool: PasswordPool) -> None:
        for _ in range(MAX_PENDING + 1):
            with pytest.raises(ValueError, match="72"):
                await pool.hash("x" * 73, "carol")


async def check(pool: PasswordPool, password: str, stored: object) -> bool:
    with pool.place("dave") as place:
        return await place.check(password, stored)


def refusals() -> float:
    return REGISTRY.get_sample_value("password_checks_refused_total") or 0
