"""Pages as Cursor Connections; the cursors are REST's."""

from collections.abc import Awaitable, Callable

from app.platform.errors import FieldError, InvalidInput
from app.platform.paging import Page
from app.platform.wire import Row

_NAMES = {"limit": "first", "cursor": "after", "sort": "orderBy"}


async def connection(reading: Awaitable[Page], as_node: Callable[[Row], Row], *, is_first: bool = True) -> Row:
    """The page that is being read. Raises what the reading does, with parameters named as GraphQL's arguments."""
    try:
        page = await reading
    except InvalidInput as error:
        raise InvalidInput(*(_renamed(**fields) for fields in error.extra["errors"])) from None
    edges = [{"node": as_node(row), "cursor": page.cursor_of(row)} for row in page.rows]
    return {
        "edges": edges,
        "pageInfo": {
            "hasNextPage": page.has_more,
            "hasPreviousPage": not is_first,
            "startCursor": edges[0]["cursor"] if edges else None,
            "endCursor": edges[-1]["cursor"] if edges else None,
        },
    }


def _renamed(field: str, code: str, message: str) -> FieldError:
    return FieldError(_NAMES.get(field, field), code, message)
