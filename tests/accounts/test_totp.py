"""One-time codes against the tables of RFC 4226 and RFC 6238, and against a second implementation."""

from base64 import b32encode
from datetime import UTC, datetime

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.totp import DRIFT_STEPS, STEP_S, code_at, matching_step

KEY = b"12345678901234567890"
SECRET = b32encode(KEY).decode()
# What was once the usual length of a secret: 80 bits.
SHORT_SECRET = "JBSWY3DPEHPK3PXP"


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class TestCodeAt:
    @pytest.mark.parametrize(
        ("step", "code"),
        list(enumerate("755224 287082 359152 969429 338314 254676 287922 162583 399871 520489".split())),
    )
    def test_agrees_with_rfc_4226_appendix_d(self, step: int, code: str) -> None:
        assert code_at(KEY, step) == code

    @given(st.binary(min_size=14, max_size=64), st.integers(0, 2**40))
    def test_agrees_with_another_implementation(self, key: bytes, step: int) -> None:
        assert code_at(key, step) == pyotp.TOTP(b32encode(key).decode()).generate_otp(step)


class TestMatchingStep:
    # RFC 6238 appendix B has eight digits; ours are the last six of them.
    @pytest.mark.parametrize(
        ("seconds", "code"),
        [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ],
    )
    def test_agrees_with_rfc_6238_appendix_b(self, seconds: int, code: str) -> None:
        assert matching_step(SECRET, code, at(seconds)) == seconds // STEP_S

    @pytest.mark.parametrize("drift", range(-3, 4))
    def test_allows_one_step_of_drift_either_way(self, drift: int) -> None:
        step = 50_000_000
        moment = at((step + drift) * STEP_S)

        found = matching_step(SECRET, code_at(KEY, step), moment)

        assert found == (step if abs(drift) <= DRIFT_STEPS else None)

    @pytest.mark.parametrize("second", [0, 29])
    def test_a_step_lasts_thirty_seconds(self, second: int) -> None:
        assert matching_step(SECRET, code_at(KEY, 1000), at(1000 * STEP_S + second)) == 1000

    @pytest.mark.parametrize(
        "code", ["", "28708", "2870820", "94287082", " 287082", "28708a", "٢٨٧٠٨٢", "287082\n", "-87082", "000000"]
    )
    def test_refuses_what_is_no_such_code(self, code: str) -> None:
        assert matching_step(SECRET, code, at(59)) is None

    def test_refuses_the_code_of_another_secret(self) -> None:
        code = code_at(b"09876543210987654321", 1)

        assert matching_step(SECRET, code, at(59)) is None

    @pytest.mark.parametrize("secret", [SHORT_SECRET, "jbswy3dpehpk3pxp", "JBSW Y3DP EHPK 3PXP", " JBSWY3DPEHPK3PXP\n"])
    def test_takes_the_secrets_of_older_set_ups(self, secret: str) -> None:
        assert matching_step(secret, "996554", at(59)) == 1

    @pytest.mark.parametrize("secret", ["", "   ", "====", "1", "A", "not base32!", "ÄÖÜ", "0189", "\x00"])
    def test_a_broken_secret_matches_nothing(self, secret: str) -> None:
        guesses = [code_at(b"", step) for step in range(3)]

        assert [matching_step(secret, code, at(59)) for code in guesses] == [None] * 3
