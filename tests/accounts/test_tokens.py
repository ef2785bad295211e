"""Tokens of ours, and everything that only looks like one: read in memory, then refused over HTTP."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import jwt
import orjson
import pytest
from bson import ObjectId
from httpx import AsyncClient

from app.accounts.errors import InvalidRefreshToken, InvalidToken
from app.accounts.tokens import ACCESS_TTL, REQUIRED_CLAIMS, AccessClaims, RefreshClaims, Tokens, derive_key
from app.platform.clock import now
from tests.callers import Caller
from tests.conftest import SECRET

TOKENS = Tokens(SECRET)
KEY = SECRET.encode()
USER, SESSION = ObjectId(), ObjectId()
HEADER = {"alg": "HS256", "typ": "at+jwt"}
REFUSAL = {
    "title": "Forbidden",
    "status": 403,
    "code": "invalid_token",
    "detail": "Invalid or expired token",
    "error": "Invalid or expired token",
}


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token, changed; `...` leaves one out."""
    issued = int(now().timestamp())
    good = {
        "iss": "ticketing",
        "aud": "ticketing",
        "sub": str(USER),
        "sid": str(SESSION),
        "iat": issued,
        "exp": issued + 3600,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def part(value: object) -> str:
    return urlsafe_b64encode(value if isinstance(value, bytes) else orjson.dumps(value)).decode().rstrip("=")


def sign(header: object, payload: object, key: bytes = KEY, algorithm: str = "sha256") -> str:
    """A token put together by hand, because a library would refuse to make most of these."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hmac.digest(key, text.encode(), algorithm))}"


def forgeries(user: ObjectId, session: ObjectId) -> dict[str, str]:
    """Tokens that name this user and session and must not count, by what is wrong with them."""

    def mine(**changes: Any) -> dict[str, Any]:
        return claims(**({"sub": str(user), "sid": str(session)} | changes))

    header, payload, signature = sign(HEADER, mine()).split(".")
    unsigned = f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{payload}."
    return {
        "no algorithm": unsigned,
        "no algorithm, with a signature": unsigned + signature,
        "no algorithm, in capitals": f"{part({'alg': 'NONE', 'typ': 'at+jwt'})}.{payload}.",
        "algorithm missing": sign({"typ": "at+jwt"}, mine()),
        "algorithm of another type": sign({"alg": ["HS256"], "typ": "at+jwt"}, mine()),
        "algorithm in lower case": sign({"alg": "hs256", "typ": "at+jwt"}, mine()),
        "HS512 with the same key": sign(HEADER | {"alg": "HS512"}, mine(), algorithm="sha512"),
        "HS384 with the same key": sign(HEADER | {"alg": "HS384"}, mine(), algorithm="sha384"),
        **{f"{name} by name": sign(HEADER | {"alg": name}, mine()) for name in ("RS256", "ES256", "PS256", "EdDSA")},
        "another key": sign(HEADER, mine(), key=b"another key that is just as long as ours"),
        "an empty key": sign(HEADER, mine(), key=b""),
        "the key of refresh tokens": sign(HEADER, mine(), key=derive_key(SECRET, "refresh-token")),
        "another key, by kid": sign(HEADER | {"kid": "../../dev/null"}, mine(), key=b""),
        "another key, by jku": sign(HEADER | {"jku": "https://evil.example/keys"}, mine(), key=b"evil" * 10),
        "another key, by jwk": sign(HEADER | {"jwk": {"kty": "oct", "k": "ZXZpbA"}}, mine(), key=b"evil"),
        "crit": sign(HEADER | {"crit": ["exp"], "exp": 1}, mine()),
        "crit, empty": sign(HEADER | {"crit": []}, mine()),
        "detached payload": sign(HEADER | {"b64": False, "crit": ["b64"]}, mine()),
        "type of the original": sign(HEADER | {"typ": "JWT"}, mine()),
        "no type": sign({"alg": "HS256"}, mine()),
        "another audience": sign(HEADER, mine(aud="another")),
        "another audience in a list": sign(HEADER, mine(aud=["another"])),
        "another issuer": sign(HEADER, mine(iss="another")),
        **{f"no {name}": sign(HEADER, mine(**{name: ...})) for name in REQUIRED_CLAIMS},
        **{f"{name} null": sign(HEADER, mine(**{name: None})) for name in REQUIRED_CLAIMS},
        "expired": sign(HEADER, mine(exp=int(now().timestamp()) - 1)),
        "expiry in ten years": sign(HEADER, mine(exp=int(now().timestamp()) + 10 * 365 * 86_400)),
        "expiry a second too late": sign(HEADER, mine(exp=int(now().timestamp()) + 3602)),
        "expiry as text": sign(HEADER, mine(exp=str(int(now().timestamp()) + 3600))),
        "expiry that is no number": sign(HEADER, mine(exp="soon")),
        "expiry that is a list": sign(HEADER, mine(exp=[])),
        "expiry at infinity": sign(HEADER, orjson.dumps(mine()).replace(b'"exp":', b'"exp":1e999,"x":')),
        "issued at no time": sign(HEADER, orjson.dumps(mine()).replace(b'"iat":', b'"iat":NaN,"x":')),
        "issued at minus infinity": sign(HEADER, orjson.dumps(mine()).replace(b'"iat":', b'"iat":-1e999,"x":')),
        "issued in the future": sign(HEADER, mine(iat=int(now().timestamp()) + 3600)),
        "not yet valid": sign(HEADER, mine(nbf=int(now().timestamp()) + 3600)),
        "subject that is no id": sign(HEADER, mine(sub="admin")),
        "subject that is a number": sign(HEADER, mine(sub=1)),
        "session that is no id": sign(HEADER, mine(sid="x" * 24)),
        "session that is an operator": sign(HEADER, mine(sid={"$ne": None})),
        "payload that is no object": sign(HEADER, ["a"]),
        "payload that is no JSON": sign(HEADER, b"\xff\xfe{"),
        "header that is no object": f"{part(['a'])}.{payload}.{signature}",
        "header nested deeply": f"{part(b'[' * 20_000)}.{payload}.{signature}",
        "signature of another token": f"{header}.{payload}.{sign(HEADER, mine(sid=str(user))).split('.')[2]}",
        "signature cut": f"{header}.{payload}.{signature[:-4]}",
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "four parts": f"{header}.{payload}.{signature}.{signature}",
        "dots": "..",
        "a word": "admin",
        "a refresh token": TOKENS.refresh(session, 0),
        "an MFA token": TOKENS.mfa(user, 0, now()),
        "an MFA token, as an access token": sign(HEADER, mine(), key=derive_key(SECRET, "mfa-token")),
        "an access token, as an MFA token": sign(HEADER | {"typ": "mfa+jwt"}, mine()),
        "a stream's ticket": TOKENS.stream_ticket(AccessClaims(user, session, now() + ACCESS_TTL), now()),
        "non-ASCII": f"é{header}.{payload}.{signature}",
        "a blank inside": f"{header}.{payload} .{signature}",
    }


FORGERIES = forgeries(USER, SESSION)


class TestAccess:
    def test_is_a_jwt_that_names_user_and_session(self) -> None:
        moment = now()

        token = TOKENS.access(USER, SESSION, moment)

        assert jwt.get_unverified_header(token) == HEADER
        decoded = jwt.decode(token, KEY, ["HS256"], audience="ticketing")
        assert set(decoded) == set(REQUIRED_CLAIMS)
        assert decoded["exp"] - decoded["iat"] == ACCESS_TTL.total_seconds() == 3600
        assert TOKENS.read_access(token) == AccessClaims(USER, SESSION, (moment + ACCESS_TTL).replace(microsecond=0))

    def test_one_from_a_copy_whose_clock_is_ahead_is_good(self) -> None:
        issued = int(now().timestamp()) + 5
        ahead = sign(HEADER, claims(iat=issued, exp=issued + 3600))

        assert TOKENS.read_access(ahead).credential_id == SESSION

    def test_the_forger_can_make_a_good_one_given_the_key(self) -> None:
        assert TOKENS.read_access(sign(HEADER, claims())).credential_id == SESSION
        assert TOKENS.read_access(sign(HEADER | {"kid": "ours"}, claims())).credential_id == SESSION

    def test_expires_after_an_hour(self) -> None:
        TOKENS.read_access(TOKENS.access(USER, SESSION, now() - ACCESS_TTL + timedelta(seconds=30)))

        with pytest.raises(InvalidToken):
            TOKENS.read_access(TOKENS.access(USER, SESSION, now() - ACCESS_TTL - timedelta(seconds=1)))

    @pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
    def test_refuses_forgeries(self, forgery: str) -> None:
        with pytest.raises(InvalidToken):
            TOKENS.read_access(forgery)

    def test_refuses_any_changed_character(self) -> None:
        token = TOKENS.access(USER, SESSION, now())

        # The last character of the signature carries four bits; its two spare ones are not part of any token's value.
        for at in range(len(token) - 1):
            if token[at] == ".":
                continue
            with pytest.raises(InvalidToken):
                TOKENS.read_access(token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :])


class TestAccessOverHttp:
    async def test_every_forgery_in_the_name_of_who_is_signed_in_is_403(
        self, customer: Caller, nobody: AsyncClient
    ) -> None:
        for kind, token in forgeries(customer.actor.id, customer.actor.credential_id).items():
            answer = await nobody.get("/api/me", headers=[(b"Authorization", f"Bearer {token}".encode())])

            body = answer.json()
            assert (kind, answer.status_code) == (kind, 403)
            assert {name: body[name] for name in REFUSAL} == REFUSAL
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="ticketing", error="invalid_token"')
        assert (await customer.get("/api/me")).status_code == 200

    async def test_a_good_token_of_a_session_that_is_not_there_is_403(self, nobody: AsyncClient) -> None:
        token = TOKENS.access(USER, SESSION, now())

        answer = await nobody.get("/api/me", headers={"Authorization": f"Bearer {token}"})

        assert answer.status_code == 403
        assert answer.json()["code"] == "invalid_token"

    async def test_another_users_session_is_403(self, customer: Caller, admin: Caller, nobody: AsyncClient) -> None:
        token = TOKENS.access(admin.actor.id, customer.actor.credential_id, now())

        answer = await nobody.get("/api/me", headers={"Authorization": f"Bearer {token}"})

        assert answer.status_code == 403
        assert answer.json()["code"] == "invalid_token"

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "bearer\t", "Basic YTpi", "Token x", "x"])
    async def test_no_token_is_401(self, nobody: AsyncClient, header: str | None) -> None:
        answer = await nobody.get("/api/me", headers={} if header is None else {"Authorization": header})

        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"
        assert answer.json()["error"] == "No token provided"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="ticketing"'

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
    async def test_the_scheme_has_no_case(self, customer: Caller, nobody: AsyncClient, scheme: str) -> None:
        answer = await nobody.get("/api/me", headers={"Authorization": f"{scheme} {customer.token}"})

        assert answer.status_code == 200

    async def test_a_token_in_the_query_counts_for_nothing(self, customer: Caller, nobody: AsyncClient) -> None:
        answer = await nobody.get("/api/me", params={"token": customer.token, "access_token": customer.token})

        assert answer.status_code == 401


class TestRefresh:
    def test_is_read_back(self) -> None:
        token = TOKENS.refresh(SESSION, 7)

        assert TOKENS.read_refresh(token) == RefreshClaims(SESSION, 7)

    def test_is_worth_nothing_under_another_secret(self) -> None:
        with pytest.raises(InvalidRefreshToken):
            Tokens(SECRET + "x").read_refresh(TOKENS.refresh(SESSION, 7))

    def test_refuses_any_changed_character(self) -> None:
        token = TOKENS.refresh(SESSION, 7)

        for at in range(len(token)):
            with pytest.raises(InvalidRefreshToken):
                TOKENS.read_refresh(token[:at] + ("1" if token[at] != "1" else "2") + token[at + 1 :])

    @pytest.mark.parametrize("generation", ["07", "007", "8", "-7", "+7", "7 ", "\u0667", "", "9" * 10])
    def test_refuses_another_generation(self, generation: str) -> None:
        mac = TOKENS.refresh(SESSION, 7).split("_", 3)[3]

        with pytest.raises(InvalidRefreshToken):
            TOKENS.read_refresh(f"rt_{SESSION}_{generation}_{mac}")

    @pytest.mark.parametrize("other", ["", "rt_", "rt___", "x" * 4096, "null"])
    def test_refuses_what_is_none(self, other: str) -> None:
        with pytest.raises(InvalidRefreshToken):
            TOKENS.read_refresh(other)

    def test_refuses_a_mac_by_the_secret_itself(self) -> None:
        mac = part(hmac.digest(KEY, f"{SESSION}:7".encode(), hashlib.sha256))

        with pytest.raises(InvalidRefreshToken):
            TOKENS.read_refresh(f"rt_{SESSION}_7_{mac}")

    async def test_an_access_token_in_its_place_is_401(self, customer: Caller) -> None:
        answer = await customer.post("/api/token/refresh", json={"refreshToken": customer.token})

        assert answer.status_code == 401
        assert answer.json()["code"] == "invalid_refresh_token"
        assert (await customer.get("/api/me")).status_code == 200
