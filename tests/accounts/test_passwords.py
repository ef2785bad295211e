"""Password hashes old and new, the rules for new passwords, and a pool that neither blocks nor piles up."""

import asyncio
import re
from collections.abc import Iterator

import bcrypt
import pytest
from prometheus_client import REGISTRY

from app.accounts import passwords
from app.accounts.passwords import MAX_WAITING, ROUNDS, THREADS, PasswordPool, weakness
from app.platform.errors import TooManyRequests

PASSWORD = "correct horse battery staple"


@pytest.fixture
def pool() -> Iterator[PasswordPool]:
    pool = PasswordPool()
    yield pool
    pool.close()


def quick_hash(password: bytes, prefix: str = "2b") -> str:
    """As the original's library would have made it, with few rounds and cut at 72 bytes."""
    hashed = bcrypt.hashpw(password[:72], bcrypt.gensalt(4)).decode()
    return hashed.replace("$2b$", f"${prefix}$", 1)


async def matches(password: str, stored: str) -> bool:
    """In a thread, as in the service: a check of 12 rounds takes its time."""
    return await asyncio.to_thread(passwords.matches, password, stored)


class TestWeakness:
    @pytest.mark.parametrize(
        "password",
        [
            *["", "short", "1234567", "ääääää7", " " * 8, "aaaaaaaa", "z" * 40, "!!!!!!!!!!", "\uff10" * 8],
            *["password", "Password1", "PASSWORD123", "passw0rd!", " password ", "p@ssword1!", "passwordpassword"],
            *["12345678", "123456789", "1234567890", "12345678910", "87654321", "123123123", "11223344", "147258369"],
            *["qwertyui", "qwertyuiop", "qwerty123", "1q2w3e4r", "1qaz2wsx", "zaq12wsx", "asdfasdf", "qwer1234"],
            *["iloveyou", "sunshine", "princess1", "football", "baseball", "superman", "trustno1", "starwars"],
            *["letmein1", "welcome123", "admin123", "administrator", "changeme", "computer", "whatever", "1234qwer"],
            *["abcd1234", "a1b2c3d4", "aa123456", "butterfly", "liverpool", "Welcome2026", "default1"],
            *["carol@example.com", "CAROL@example.com ", "x" * 73, "é" * 37],
        ],
    )
    def test_refuses(self, password: str) -> None:
        assert weakness(password, "carol@example.com") is not None

    @pytest.mark.parametrize(
        "password", [PASSWORD, "kV8#pqzr", "x1" * 36, "é8" * 24, "пароль-на-век", "tr0ub4dor&3", "        a8"]
    )
    def test_accepts(self, password: str) -> None:
        assert weakness(password, "carol@example.com") is None

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
            *["", "x", "plain text", PASSWORD, "$2b$", "$2b$12$", "$2b$12$" + "a" * 52, "$2b$12$" + "!" * 53],
            *["$2b$99$" + "a" * 53, "$2b$00$" + "a" * 53, "$2c$12$" + "a" * 53, "$argon2id$v=19$m=1,t=1,p=1$YQ$YQ"],
            *["é" * 60, "\x00" * 60, "$2b$12$" + "a" * 200],
        ],
    )
    async def test_a_broken_hash_matches_nothing(self, stored: str) -> None:
        assert not await matches(PASSWORD, stored)

    async def test_what_stands_in_for_nobody_costs_what_a_user_costs(self) -> None:
        assert ROUNDS == 12
        assert passwords._NOBODY.startswith(b"$2b$12$")
        assert len(passwords._NOBODY) == 60
        assert (
            await asyncio.to_thread(bcrypt.checkpw, b"anything", passwords._NOBODY) is False
        )  # a sound hash, or this would raise


class TestPool:
    async def test_makes_hashes_of_twelve_rounds(self, pool: PasswordPool) -> None:
        hashed = await pool.hash(PASSWORD)

        assert re.fullmatch(r"\$2b\$12\$.{53}", hashed)
        assert await pool.check(PASSWORD, hashed)
        assert not await pool.check("another password", hashed)

    async def test_nobody_has_no_password(self, pool: PasswordPool) -> None:
        assert not await pool.check(PASSWORD, None)
        assert not await pool.check("", None)

    async def test_the_event_loop_goes_on_meanwhile(self, pool: PasswordPool) -> None:
        turns = 0
        hashing = asyncio.ensure_future(pool.hash(PASSWORD))

        while not hashing.done():
            await asyncio.sleep(0)
            turns += 1

        # A blocked loop gets two or three; a quarter of a second gives thousands.
        assert turns > 50

    async def test_refuses_more_than_it_can_serve_soon_and_recovers(self, pool: PasswordPool) -> None:
        stored = quick_hash(PASSWORD.encode())
        refused = refusals()
        all_places = [asyncio.ensure_future(pool.hash(PASSWORD)) for _ in range(THREADS + MAX_WAITING)]
        await asyncio.sleep(0)

        with pytest.raises(TooManyRequests) as refusal:
            await pool.check(PASSWORD, stored)

        assert len(all_places) == 10
        assert int(refusal.value.headers["Retry-After"]) >= 1
        assert refusals() == refused + 1
        assert all(await asyncio.gather(*all_places))
        assert await pool.check(PASSWORD, stored)

    async def test_who_gives_up_waiting_still_takes_a_place_until_the_thread_is_done(self, pool: PasswordPool) -> None:
        all_places = [asyncio.ensure_future(pool.hash(PASSWORD)) for _ in range(THREADS + MAX_WAITING)]
        await asyncio.sleep(0)

        for place in all_places[2:]:
            place.cancel()
        await asyncio.sleep(0)

        with pytest.raises(TooManyRequests):
            await pool.hash(PASSWORD)
        await asyncio.gather(*all_places, return_exceptions=True)

    async def test_an_error_in_the_thread_gives_its_place_back(self, pool: PasswordPool) -> None:
        for _ in range(THREADS + MAX_WAITING + 1):
            with pytest.raises(ValueError, match="72"):
                await pool.hash("x" * 73)


def refusals() -> float:
    return REGISTRY.get_sample_value("password_checks_refused_total") or 0
