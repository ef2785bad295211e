"""Quantiles of durations from counts per logarithmic bucket, which can be added and subtracted.

The buckets are DDSketch's (Masson, Rim, Lee 2019): bucket k holds the durations above g^(k-1) ms and up to g^k ms, so
that its estimate is off by `RELATIVE_ERROR` at most. The libraries for it keep their counts in memory, and add only.
"""

import math
from collections.abc import Mapping

RELATIVE_ERROR = 0.02
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)
# Rows of an old database may have been resolved before they were created.
NOT_POSITIVE = "-1"


def bucket_of(ms: int) -> str:
    """The bucket of a duration, as a field name; everything that is not positive shares one."""
    return str(math.ceil(math.log(ms) / _LOG_GAMMA)) if ms > 0 else NOT_POSITIVE


def quantile(buckets: Mapping[str, int], share: float) -> int | None:
    """The duration in ms below or at which this share (0 to 1) of all are, by the nearest rank; None without any.

    Off by `RELATIVE_ERROR` at most, and half a millisecond from rounding; 0 for what is not positive.
    """
    count = sum(buckets.values())
    if count <= 0:
        return None
    rank = max(1, math.ceil(share * count))
    for bucket in sorted(buckets, key=int):
        rank -= buckets[bucket]
        if rank <= 0:
            break
    return 0 if bucket == NOT_POSITIVE else round(2 * _GAMMA ** int(bucket) / (_GAMMA + 1))
