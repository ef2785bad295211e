"""Which media type is preferred, case by case."""

import pytest

from app.graphql.negotiation import preferred

A, B, C = "application/a", "application/b", "text/c"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", A),
        (" , ", A),
        ("*/*", A),
        ("application/*", A),
        ("text/*", C),
        (B, B),
        (f"{B}, {A}", B),
        (f"{A}, {B}", A),
        (f"{B};q=0.5, {A};q=0.4", B),
        (f"{B};q=0.4, */*;q=0.5", A),
        (f"*/*, {B}", B),
        (f"{B}, */*", B),
        (f"{A};q=0, */*", B),
        (f"{A};q=0, {B};q=0, */*;q=0.1", C),
        ("application/*;q=0, */*", C),
        ("*/*;q=0", None),
        ("image/png", None),
        (f"{A};q=0", None),
        (f"{A};q=x", None),
        (f"{A};q=7", A),
        (f"{B};q=-1, {A};q=0.1", A),
        (f"{B} ; charset=utf-8 ; q=1.0", B),
        (B.upper(), B),
        ("a" * 10_000, None),
        (";;;,,,q=1", None),
    ],
)
def test_preferred(accept: str, expected: str | None) -> None:
    assert preferred(accept, (A, B, C)) == expected
