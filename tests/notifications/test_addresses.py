"""Addresses and links in mails: they say what they should, and nobody else can make one."""

import base64
import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from app.notifications.addresses import read_unsubscribe_token, reply_address, unsubscribe_url
from app.notifications.errors import InvalidUnsubscribeToken
from app.notifications.kinds import Kind

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TICKET = ObjectId("6740a1f0c3b2a1d4e5f60720")
USER = ObjectId("6740a1f0c3b2a1d4e5f60718")


def token(kind: Kind = Kind.COMMENTED, key: bytes = KEY) -> str:
    return unsubscribe_url("https://help.example.com", USER, kind, key).partition("=")[2]


class TestReplyAddress:
    def test_is_stable_and_of_ticket_and_key(self) -> None:
        address = reply_address("support@example.com", TICKET, KEY)

        proof = hmac.new(KEY, b"reply" + TICKET.binary, hashlib.sha256).digest()[:10]
        expected = base64.b32encode(TICKET.binary + proof).decode().rstrip("=").lower()
        assert address == f"support+t.{expected}@example.com"
        others = {reply_address("support@example.com", *given) for given in ((ObjectId(), KEY), (TICKET, OTHER_KEY))}
        assert len(others | {address}) == 3

    @pytest.mark.parametrize(("length", "is_there"), [(1, True), (25, True), (26, False), (64, False)])
    def test_is_none_where_it_would_be_too_long(self, length: int, *, is_there: bool) -> None:
        address = reply_address("s" * length + "@example.com", TICKET, KEY)

        assert (address is not None) == is_there
        assert address is None or len(address.partition("@")[0]) <= 64


class TestUnsubscribeToken:
    @pytest.mark.parametrize("kind", Kind)
    def test_says_who_and_what(self, kind: Kind) -> None:
        url = unsubscribe_url("https://help.example.com", USER, kind, KEY)

        assert re.fullmatch(r"https://help\.example\.com/unsubscribe\?token=[A-Za-z0-9_-]{40,60}", url)
        assert read_unsubscribe_token(token(kind), KEY) == (USER, kind)

    def test_is_good_with_its_own_key_only(self) -> None:
        with pytest.raises(InvalidUnsubscribeToken):
            read_unsubscribe_token(token(), OTHER_KEY)

    def test_every_other_bit_is_a_forgery(self) -> None:
        content = urlsafe_b64decode(token() + "=" * (-len(token()) % 4))
        for place in range(len(content) * 8):
            changed = bytearray(content)
            changed[place // 8] ^= 1 << place % 8
            with pytest.raises(InvalidUnsubscribeToken):
                read_unsubscribe_token(urlsafe_b64encode(changed).decode().rstrip("="), KEY)

    @given(st.text() | st.sampled_from([token()[:-1], token() + "=", token() + "A", " " + token(), "é", "\ud800"]))
    def test_whatever_else_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidUnsubscribeToken):
            read_unsubscribe_token(text, KEY)
