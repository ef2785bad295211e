"""From sums to answers, and which sums each answer needs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, islice, pairwise

from app.platform.wire import Row

from .period import Slice
from .sketch import RELATIVE_ERROR, quantile
from .sums import Measures, Sums

MEDIAN, P90 = 0.5, 0.9
SCORES = range(1, 6)

Series = Sequence[tuple[Slice, Sums]]

LAST_RESOLUTION: Measures = ("resolved", "resolutionMs", "resolutionBuckets")
FIRST_RESOLUTION: Measures = ("firstResolved", "firstResolutionMs", "firstResolutionBuckets")
RESOLUTION_TIME: Measures = (*LAST_RESOLUTION, *FIRST_RESOLUTION)
FIRST_RESPONSE_TIME: Measures = ("responded", "firstResponseMs", "firstResponseBuckets")
VOLUME: Measures = ("created", "resolved", "reopened")
FLOW: Measures = ("created", "reopened", "left")
OPEN: Measures = ("open",)
SLA: Measures = (
    *("slaTickets", "slaFirstResponseMet", "slaFirstResponseBreached"),
    *("slaResolutionMet", "slaResolutionBreached"),
)
SATISFACTION: Measures = ("ratings", "ratingSum", *(f"rating{score}" for score in SCORES))
AGENTS: Measures = ("resolved", "resolutionMs", "resolvedUndated", "reopened")
TAGS: Measures = ("created", "open", "resolved", "resolutionMs", "resolvedUndated")
OVERVIEW: Measures = (
    *("created", "reopened", "open", "resolvedUndated"),
    *LAST_RESOLUTION,
    *FIRST_RESPONSE_TIME,
    *SLA,
    *SATISFACTION,
)
# Of open tickets, in local days: from so many on, to so many, which is excluded.
AGES: tuple[tuple[int, int | None], ...] = ((0, 1), (1, 3), (3, 7), (7, 30), (30, None))


def resolution_time(sums: Sums) -> Row:
    return {
        **_resolution(sums, *LAST_RESOLUTION),
        "resolution": "last",
        "first": _resolution(sums, *FIRST_RESOLUTION),
        "quantileError": RELATIVE_ERROR,
    }


def first_response_time(sums: Sums) -> Row:
    return {**_first_response(sums), "quantileError": RELATIVE_ERROR}


def sla(sums: Sums) -> Row:
    return {
        "tickets": sums["slaTickets"],
        "firstResponse": _attainment(sums["slaFirstResponseMet"], sums["slaFirstResponseBreached"]),
        "resolution": _attainment(sums["slaResolutionMet"], sums["slaResolutionBreached"]),
    }


def satisfaction(sums: Sums) -> Row:
    return {
        "count": sums["ratings"],
        "average": average(sums["ratingSum"], sums["ratings"]),
        "scores": {str(score): sums[f"rating{score}"] for score in SCORES},
    }


def overview(sums: Sums) -> Row:
    return {
        "created": sums["created"],
        "resolved": resolved(sums),
        "reopened": sums["reopened"],
        "open": sums["open"],
        **_times(sums, "resolutionBuckets"),
        "avgTime": average(sums["resolutionMs"], sums["resolved"]),
        "firstResponse": _first_response(sums),
        "sla": sla(sums),
        "satisfaction": satisfaction(sums),
    }


def agent_performance(rows: Iterable[Row]) -> list[Row]:
    """From the sums of each agent, with `_id` and `username`: those with any, who resolved most first."""
    found = [
        {
            "_id": row["_id"],
            "username": row["username"],
            "resolvedTickets": resolved(row),
            "avgTime": average(row["resolutionMs"], row["resolved"]),
            "reopened": row["reopened"],
        }
        for row in rows
    ]
    shown = [row for row in found if row["resolvedTickets"] or row["reopened"]]
    return sorted(shown, key=lambda row: (-row["resolvedTickets"], row["_id"] is None, str(row["_id"])))


def tags(rows: Iterable[Row]) -> Row:
    """From the sums of each tag, with `_id`, in the order that they are shown."""
    return {
        "items": [
            {
                "tag": row["_id"],
                "created": row["created"],
                "resolved": resolved(row),
                "open": row["open"],
                "avgTime": average(row["resolutionMs"], row["resolved"]),
            }
            for row in rows
        ]
    }


def volume(series: Series) -> list[Row]:
    return [{"start": one.start.isoformat(), **{measure: sums[measure] for measure in VOLUME}} for one, sums in series]


def backlog(before: Sums, series: Series) -> list[Row]:
    """How many are open at the end of each slice, from what came and went before them all and in each."""
    open_by_then = accumulate((_flow(sums) for _, sums in series), initial=_flow(before))
    return [
        {"date": one.start.isoformat(), "open": number}
        for (one, _), number in zip(series, islice(open_by_then, 1, None), strict=True)
    ]


def by_age(older: Sequence[int], number_open: int) -> list[Row]:
    """The open tickets of each of `AGES`; `older` says how many are at least as old as each but the last reaches."""
    at_least = [number_open, *older, 0]
    return [
        {"fromDays": youngest, "toDays": oldest, "open": this - next_}
        for (youngest, oldest), (this, next_) in zip(AGES, pairwise(at_least), strict=True)
    ]


def resolved(sums: Mapping[str, int]) -> int:
    """All that are resolved; those of the original service that it did not date have no place but in all time."""
    return sums["resolved"] + sums["resolvedUndated"]


def average(total: int, count: int) -> float | None:
    """Exact where it is whole; as near as a float comes, else."""
    if count == 0:
        return None
    return total // count if total % count == 0 else total / count


def _resolution(sums: Sums, count: str, total: str, buckets: str) -> Row:
    return {"avgTime": average(sums[total], sums[count]), **_times(sums, buckets), "count": sums[count]}


def _first_response(sums: Sums) -> Row:
    mean = average(sums["firstResponseMs"], sums["responded"])
    times = _times(sums, "firstResponseBuckets")
    return {"avgMs": None if mean is None else round(mean), **times, "count": sums["responded"]}


def _times(sums: Sums, measure: str) -> Row:
    buckets = sums.buckets.get(measure, {})
    return {"medianMs": quantile(buckets, MEDIAN), "p90Ms": quantile(buckets, P90)}


def _attainment(met: int, breached: int) -> Row:
    return {"met": met, "breached": breached, "rate": average(met, met + breached)}


def _flow(sums: Sums) -> int:
    return sums["created"] + sums["reopened"] - sums["left"]
