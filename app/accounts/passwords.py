"""bcrypt in a small pool of its own: two threads, a bounded queue, never the event loop.

One check is a quarter of a second of CPU by design. More waiting checks than two threads can serve in a second
would only pile up, so they are refused with 429: those of whoever has the most under way before anybody else's.
"""

import asyncio
import math
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

import bcrypt

from app.platform.errors import TooManyRequests
from app.platform.metrics import PASSWORD_CHECKS_REFUSED, PASSWORD_CHECKS_WAITING

Result = TypeVar("Result")

ROUNDS = 12
THREADS = 2
MAX_WAITING = 8
MAX_PENDING = THREADS + MAX_WAITING
NICENESS = 10
# bcrypt reads no further; the original's library cut silently, so longer old passwords must still match.
MAX_BYTES = 72
MIN_CHARACTERS = 8
# What unknown users are compared with, so that both refusals cost the same.
_NOBODY = b"$2b$12$C6UzMDM.H6dfI/f/IKcEeO4TrQk3eS1YT9x8FhYFN9fUK1vXq5nxa"

# bcrypt as all of its libraries write it, by at most 2^15 rounds: 2^31 would hold a thread for days. `$2x$` is left
# out, because it marks the hashes of a faulty implementation; so are bits that no encoder sets at the end of the salt.
_SOUND_HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)


def _common_passwords() -> frozenset[str]:
    """The commonest passwords of published leaks, and words and names, in lower case, as zxcvbn lists them.

    All of its lists count, because a password that is a word as well is only among the words. Its module of lists is
    run by itself: importing the package would rank everything and keep that.
    """
    package = find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(name="zxcvbn")
    file = Path(package.origin).with_name("frequency_lists.py")
    lists = SourceFileLoader("zxcvbn_lists", str(file))
    module = ModuleType(lists.name)
    lists.exec_module(module)
    everything: dict[str, list[str]] = module.FREQUENCY_LISTS
    return frozenset(word for words in everything.values() for word in words if len(word) >= MIN_CHARACTERS)


_COMMON = _common_passwords()
# The lists leave out what follows a rule: 12341234, and in `_is_even_row` 87654321 or aaaaaaaa.
_REPEATED_DIGITS = re.compile(r"(\d{1,6})\1+")


def _give_way() -> None:
    """Lets everybody's requests go before, on processors that are busy: they take a millisecond, not a quarter second.

    Only Linux gives each thread a priority of its own.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class PasswordPool:
    """Hashes and checks passwords off the event loop, for as many as two threads can serve in good time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="bcrypt", initializer=_give_way)
        self._taken: list[Place] = []

    def place(self, caller: str) -> "Place":
        """A place in the queue, `with` which one password can be hashed or checked.

        `caller` is whose it is: a signed-in user by id, a stranger by where they call from.
        """
        return Place(self, caller)

    async def hash(self, password: str, caller: str) -> str:
        with self.place(caller) as place:
            return await place.hash(password)

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def take(self, place: "Place") -> None:
        """Raises `TooManyRequests` when all are taken, and nobody has more of them than the newcomer."""
        if len(self._taken) >= MAX_PENDING and not self._makes_room(place.caller):
            raise _refusal()
        self._taken.append(place)
        PASSWORD_CHECKS_WAITING.set(len(self._taken))

    def give_back(self, place: "Place") -> None:
        if place in self._taken:
            self._taken.remove(place)
        PASSWORD_CHECKS_WAITING.set(len(self._taken))

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        return self._executor.submit(work)

    def _makes_room(self, newcomer: str) -> bool:
        """Takes the last place of whoever has the most, if they keep as many as the newcomer has then."""
        taken = Counter(place.caller for place in self._taken)
        for caller, count in taken.most_common():
            if count <= taken[newcomer] + 1:
                break
            for place in reversed(self._taken):
                if place.caller == caller and place.lose():
                    self._taken.remove(place)
                    return True
        return False


class Place:
    """Taken before the database is asked who it is, so that whoever has to be refused costs nothing."""

    def __init__(self, pool: PasswordPool, caller: str) -> None:
        self.caller = caller
        self._pool = pool
        self._work: Future[Any] | None = None
        self._is_lost = False

    def __enter__(self) -> Self:
        """Raises `TooManyRequests` when there is none."""
        self._pool.take(self)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._work is None or self._work.done():
            self._pool.give_back(self)
        else:  # kept until the thread is done, also when the client gave up waiting
            loop = asyncio.get_running_loop()
            self._work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._pool.give_back, self))

    def lose(self) -> bool:
        """Leaves the place to somebody else, unless a thread is at it already."""
        self._is_lost = self._work is None or self._work.cancel()
        return self._is_lost

    async def hash(self, password: str) -> str:
        """Raises `TooManyRequests` when the place is lost meanwhile."""
        digest = await self._run(lambda: bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)))
        return digest.decode()

    async def check(self, password: str, stored: object) -> bool:
        """Whether the password made the stored hash; false, at the same cost, when that is none.

        Raises `TooManyRequests` when the place is lost meanwhile.
        """
        return await self._run(lambda: matches(password, stored))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._is_lost:
            raise _refusal()
        self._work = self._pool.submit(work)
        waiting = asyncio.wrap_future(self._work)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if waiting.cancelled():
                raise _refusal() from None
            # Seen, so that asyncio doesn't report it when nobody waits any more.
            waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
            raise


def _refusal() -> TooManyRequests:
    PASSWORD_CHECKS_REFUSED.inc()
    return TooManyRequests(math.ceil(MAX_WAITING / THREADS / 4))


def matches(password: str, stored: object) -> bool:
    """One bcrypt check; what is no sound hash matches nothing, at the cost of one of ours."""
    plain = password.encode()[:MAX_BYTES]
    if isinstance(stored, str) and _SOUND_HASH.fullmatch(stored):
        return bcrypt.checkpw(plain, stored.encode())
    bcrypt.checkpw(plain, _NOBODY)
    return False


def weakness(password: str, username: str) -> str | None:
    """Why a new password is refused, if it is: 8 characters to 72 bytes, not the username, not an easy guess."""
    if len(password) < MIN_CHARACTERS:
        return f"must have at least {MIN_CHARACTERS} characters"
    if len(password.encode()) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes"
    plain = password.strip().casefold()
    if plain == username.strip().casefold():
        return "must not be the username"
    if plain in _COMMON or _REPEATED_DIGITS.fullmatch(plain) or _is_even_row(password.casefold()):
        return "is one of the most common passwords"
    return None


def _is_even_row(text: str) -> bool:
    """Whether each character is as far from the one before as all others; 0 follows 9."""
    return len({(ord(after) - ord(before)) % 10 for before, after in pairwise(text)}) <= 1
