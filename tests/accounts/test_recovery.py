"""Recovery codes as text: ten, each readable however it was copied."""

import re

import pytest

from app.accounts.recovery import code_digest, new_codes


def test_are_ten_of_eighty_bits() -> None:
    codes = new_codes()

    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", code) for code in codes)
    assert not set(codes) & set(new_codes())


@pytest.mark.parametrize(
    "typed", ["7K2M-04QX-9ZT1-H1CD", "7k2m04qx9zt1h1cd", " 7K2M 04QX 9ZT1 H1CD ", "7K2M-O4QX-9ZTL-HICD"]
)
def test_reads_what_people_type(typed: str) -> None:
    assert code_digest(typed) == code_digest("7K2M-04QX-9ZT1-H1CD")


def test_another_code_has_another_digest() -> None:
    assert code_digest("7K2M-04QX-9ZT1-H1CD") != code_digest("7K2M-04QX-9ZT1-H1CE")
    assert "7K2M" not in code_digest("7K2M-04QX-9ZT1-H1CD").upper()
