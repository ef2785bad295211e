"""bcrypt in a small pool of its own: two threads, a bounded queue, never the event loop.

One check is a quarter of a second of CPU by design. More waiting checks than two threads can serve in a second
would only pile up, so they are refused with 429.
"""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import bcrypt

from app.platform.errors import TooManyRequests
from app.platform.metrics import PASSWORD_CHECKS_REFUSED, PASSWORD_CHECKS_WAITING

Result = TypeVar("Result")

ROUNDS = 12
THREADS = 2
MAX_WAITING = 8
# bcrypt reads no further; the original's library cut silently, so longer old passwords must still match.
MAX_BYTES = 72
MIN_CHARACTERS = 8
# What unknown users are compared with, so that both refusals cost the same.
_NOBODY = b"$2b$12$C6UzMDM.H6dfI/f/IKcEeO4TrQk3eS1YT9x8FhYFN9fUK1vXq5nxa"

# Everybody's first guesses of 8 and more characters, by shape rather than by list: keyboard rows, digit runs and the
# words that lead every published ranking, each alone, doubled, or with the usual endings.
_STEMS = """password passw0rd p@ssword p@ssw0rd qwerty qwertyui qwertyuiop qwerty123 asdfgh asdfghjkl zxcvbnm 1q2w3e4r
1q2w3e4r5t 1qaz2wsx q1w2e3r4 iloveyou princess sunshine football baseball superman batman dragon monkey letmein
welcome admin administrator master michael jordan shadow trustno1 starwars whatever computer internet samsung
charlie jennifer michelle jessica ashley abc123 abcd1234 abcdefgh secret changeme default login access hello
freedom ticketing support helpdesk asdf asdfasdf qwer1234 1234qwer zaq12wsx qazwsx qazwsxedc a1b2c3d4 aa123456
butterfly liverpool elizabeth spiderman charlotte alexander babygirl google 1q2w3e4r5t6y""".split()
_ENDINGS = ["", "1", "12", "123", "1234", "12345", "!", "1!", "123!", "2024", "2025", "2026", "01", "00"]
_RUNS = [
    *["01234567890", "12345678910", "9876543210", "0987654321", "123123123123", "112233445566", "123412341234"],
    *["147258369", "123654789", "123321123321"],
]
COMMON = frozenset(
    [stem + ending for stem in _STEMS for ending in _ENDINGS]
    + [stem * 2 for stem in _STEMS]
    + [run[start:end] for run in _RUNS for start in range(len(run)) for end in range(start + 8, len(run) + 1)]
)


class PasswordPool:
    """Hashes and checks passwords off the event loop. Methods raise `TooManyRequests` when too many wait."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="bcrypt")
        self._pending = 0

    async def hash(self, password: str) -> str:
        digest = await self._run(lambda: bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)))
        return digest.decode()

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether the password made the stored hash; false, at the same cost, when there is none."""
        is_match = await self._run(lambda: matches(password, stored))
        return is_match and stored is not None

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._pending >= THREADS + MAX_WAITING:
            PASSWORD_CHECKS_REFUSED.inc()
            raise TooManyRequests(math.ceil(MAX_WAITING / THREADS / 4))
        self._pending += 1
        PASSWORD_CHECKS_WAITING.set(self._pending)
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        # Counted until the thread is done, also when the client gave up waiting.
        future.add_done_callback(self._finished)
        return await asyncio.shield(future)

    def _finished(self, future: "asyncio.Future[Any]") -> None:
        self._pending -= 1
        PASSWORD_CHECKS_WAITING.set(self._pending)
        if not future.cancelled():
            future.exception()  # seen, so that asyncio doesn't report it when nobody waits any more

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def matches(password: str, stored: str | None) -> bool:
    """One bcrypt check; a broken hash matches nothing, at the cost of a sound one."""
    plain = password.encode()[:MAX_BYTES]
    try:
        return bcrypt.checkpw(plain, _NOBODY if stored is None else stored.encode())
    except ValueError:
        bcrypt.checkpw(plain, _NOBODY)
        return False


def weakness(password: str, username: str) -> str | None:
    """Why a new password is refused, if it is: 8 characters to 72 bytes, not the username, not a common one."""
    if len(password) < MIN_CHARACTERS:
        return f"must have at least {MIN_CHARACTERS} characters"
    if len(password.encode()) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes"
    plain = password.strip().casefold()
    if plain == username.strip().casefold():
        return "must not be the username"
    if plain in COMMON or len(set(plain)) <= 1:
        return "is one of the most common passwords"
    return None
