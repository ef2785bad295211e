"""Which media type an answer is to have (RFC 9110 §12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """The offer that the client likes best; None if it takes none.

    Of equals it is the one that the client names first and, where a wildcard is all that it says, the first offer.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return offers[0]
    ranked = [(*_liking(offer, ranges), -place, offer) for place, offer in enumerate(offers)]
    quality, *_, offer = max(ranked)
    return offer if quality > 0 else None


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return name, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return name, 0.0


def _liking(offer: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, bool, int]:
    """How much it is liked by the most exact range that fits; whether it is named; how early."""
    kind = offer.partition("/")[0]
    for name in (offer, f"{kind}/*", "*/*"):
        for place, (given, quality) in enumerate(ranges):
            if given == name:
                return quality, name == offer, -place
    return 0.0, False, 0
