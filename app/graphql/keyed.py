"""A mutation with an `Idempotency-Key`: done once, answered again from what was stored with it.

The key's row is written in the transaction of the change, when the answer's nested fields are not resolved yet, so it
holds the command's result. The body is added when it is there. A repetition that comes earlier, or after a crash in
between, resolves the same selection on the stored result instead of running the command.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import bson
from bson.codec_options import CodecOptions
from pymongo.errors import PyMongoError

from app.platform.idempotency import Answer, Key, Once

Result = TypeVar("Result")

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


class KeyedMutation:
    """The one mutation of a request, and what is stored of its key's first request, if there was one."""

    def __init__(self, key: Key, first: Answer | None) -> None:
        self._key = key
        self._first = first
        self.is_repeated = first is not None

    @property
    def stored_body(self) -> bytes:
        """The body that the key's first request got; empty while it has none."""
        return self._first.body if self._first is not None else b""

    async def carry_out(
        self, command: Callable[[Once[Result]], Awaitable[Result]], as_value: Callable[[Result], Any]
    ) -> Any:
        """The value of the command, which is run unless the key's first request has done so.

        Raises `IdempotencyInProgress`, `IdempotencyKeyReused`, or what the command raises.
        """
        if self._first is None:
            once: Once[Result] = Once(self._key, lambda result: Answer(200, result=_pack(as_value(result))))
            self._first, self.is_repeated = await once.run(command)
        return _unpack(self._first.result)

    async def complete(self, body: bytes) -> None:
        """Keeps the body for repetitions, if anything was done. A failure does no harm: they make their own then."""
        if self._first is None:
            return
        try:
            await self._key.add_body(body)
        except PyMongoError:
            return


def _pack(value: Any) -> bytes:
    return bson.encode({"value": value})


def _unpack(stored: bytes) -> Any:
    return bson.decode(stored, _OPTIONS)["value"]
