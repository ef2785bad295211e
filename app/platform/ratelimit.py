"""How much one caller may ask for: requests per minute, and requests under way at the same time."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from bson import ObjectId
from starlette.requests import HTTPConnection

from .errors import TooManyRequests
from .metrics import REQUESTS_REFUSED
from .shares import Exchange, Share

WINDOW_S = 60
MAX_IN_FLIGHT = 100
RETRY_IN_FLIGHT_S = 1
# Callers remembered at a time, some 15 MB of them; whoever was not seen for the longest is forgotten.
MAX_CALLERS = 50_000
# Tokens remembered at a time, each of some 400 bytes.
MAX_TOKENS = 10_000
# Less than this part of a budget is not worth a write: most callers never cost one.
_WORTH_TELLING_PART = 100
# A client that is at one request after the other has no more than a few under way.
_IN_FLIGHT_WORTH_TELLING = 5
# What one customer of a provider has of IPv6 (RFC 6177): an address of its own for each request costs nothing.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Policy:
    """So many requests per minute of the clock."""

    name: str
    limit: int

    @property
    def header(self) -> str:
        return f'"{self.name}";q={self.limit};w={WINDOW_S}'


USER = Policy("user", 3000)
ANONYMOUS = Policy("anonymous", 600)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a budget, and in how many seconds there is a new one."""

    policy: Policy
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As in draft-ietf-httpapi-ratelimit-headers."""
        left = f'"{self.policy.name}";r={self.remaining};t={self.reset_s}'
        return {"RateLimit-Policy": self.policy.header, "RateLimit": left}


class Budgets:
    """What callers have spent in this minute, and how many requests of each user are under way, in all processes.

    Known at once for this process, for the others as of the last exchange; `Exchange` says by how much the sum can
    pass a limit. Without MongoDB each process holds to the limits by itself.
    """

    def __init__(self, exchange: Exchange, *, is_on: bool, clock: Callable[[], float] = time.time) -> None:
        self._exchange = exchange
        self._is_on = is_on
        self._clock = clock
        self._window = 0
        self._spent: OrderedDict[str, Share] = OrderedDict()
        self._in_flight: dict[str, Share] = {}
        self._owners: OrderedDict[str | None, ObjectId | None] = OrderedDict()

    def owner_of(self, token: str | None) -> ObjectId | None:
        """Whose token it was when it was last looked up here; None if it was not good, or not seen of late."""
        return None if token is None else self._owners.get(token)

    def is_bad(self, token: str | None) -> bool:
        """Whether it was not good when it was last looked up here."""
        return token in self._owners and self._owners[token] is None

    def remember(self, token: str | None, owner: ObjectId | None) -> None:
        """Whose the token is, as it was just found; nobody's if it is good no more."""
        if token is None or not self._is_on:
            return
        self._owners[token] = owner
        if len(self._owners) > MAX_TOKENS:
            self._owners.popitem(last=False)

    def charge_user(self, connection: HTTPConnection, user_id: object) -> None:
        """Spends one request of a user's. Raises `TooManyRequests`."""
        if self._is_on:
            self._charge(connection, USER, str(user_id))

    def hold_place(self, request: HTTPConnection, user_id: object) -> None:
        """Counts the request among the user's that are under way, until it is answered. Raises `TooManyRequests`."""
        if self._is_on:
            request.state.leave = self.enter(str(user_id))

    def charge_address(self, connection: HTTPConnection) -> None:
        """Spends one request of whoever calls from there. Raises `TooManyRequests`."""
        if self._is_on:
            self._charge(connection, ANONYMOUS, _address_of(connection))

    def check_user(self, connection: HTTPConnection, user_id: object) -> None:
        """Spends nothing. Raises `TooManyRequests` when the user has nothing left."""
        self._check(connection, USER, str(user_id))

    def check_address(self, connection: HTTPConnection) -> None:
        """Spends nothing. Raises `TooManyRequests` when whoever calls from there has nothing left."""
        self._check(connection, ANONYMOUS, _address_of(connection))

    def _check(self, connection: HTTPConnection, policy: Policy, who: str) -> None:
        if self._is_on and self._share(policy, who, self._clock()).total >= policy.limit:
            self._charge(connection, policy, who)

    def spend(self, policy: Policy, who: str) -> tuple[bool, Standing]:
        """Whether there was a request left to spend, and what is left now."""
        moment = self._clock()
        share = self._share(policy, who, moment)
        is_good = share.total < policy.limit
        if is_good:
            share.own += 1
            self._exchange.moved(share)
        reset_s = math.ceil((self._window + 1) * WINDOW_S - moment)
        return is_good, Standing(policy, max(policy.limit - share.total, 0), reset_s)

    def enter(self, who: str) -> Callable[[], None]:
        """Begins a request of a user's; what it returns ends it. Raises `TooManyRequests`."""
        share = self._in_flight.get(who)
        if share is None:
            share = Share(f"in-flight:{who}", MAX_IN_FLIGHT, worth_telling=_IN_FLIGHT_WORTH_TELLING)
            self._in_flight[who] = share
        if share.total >= MAX_IN_FLIGHT:
            REQUESTS_REFUSED.labels("in-flight").inc()
            raise TooManyRequests(RETRY_IN_FLIGHT_S)
        share.own += 1
        self._exchange.moved(share)

        def leave() -> None:
            share.own -= 1
            self._exchange.moved(share)
            if share.own == 0 and self._in_flight.get(who) is share:
                del self._in_flight[who]

        return leave

    def _charge(self, connection: HTTPConnection, policy: Policy, who: str) -> None:
        is_good, standing = self.spend(policy, who)
        connection.state.standing = standing
        if not is_good:
            REQUESTS_REFUSED.labels(policy.name).inc()
            raise TooManyRequests(standing.reset_s)

    def _share(self, policy: Policy, who: str, moment: float) -> Share:
        window = int(moment // WINDOW_S)
        if window != self._window:
            self._window = window
            self._spent.clear()
        key = f"{policy.name}:{who}:{window}"
        share = self._spent.get(key)
        if share is None:
            worth_telling = policy.limit // _WORTH_TELLING_PART
            share = Share(key, policy.limit, worth_telling=worth_telling, ends_at=(window + 1) * WINDOW_S)
            self._spent[key] = share
            if len(self._spent) > MAX_CALLERS:
                self._spent.popitem(last=False)
        else:
            self._spent.move_to_end(key)
        return share


def _address_of(connection: HTTPConnection) -> str:
    return caller_of(connection.client.host if connection.client else "")


def caller_of(host: str) -> str:
    """Whom an address stands for: itself, or with IPv6 its network of 64 bits."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # no network at all, or a test's
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _IPV6_PREFIX), strict=False))
