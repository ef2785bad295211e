"""The schema: its roots, and the text that clients are generated from."""

from functools import cache

import strawberry
from strawberry.schema.config import StrawberryConfig

from .mutation import Mutation
from .query import Query
from .scalars import SCALARS, read_member
from .subscription import Subscription

_STRAWBERRY = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    config=StrawberryConfig(default_resolver=read_member, scalar_map=SCALARS),
)
# What parses, validates and executes; Strawberry itself has no public name for it.
SCHEMA = _STRAWBERRY._schema  # noqa: SLF001


@cache
def sdl() -> str:
    """The schema in the schema definition language."""
    return _STRAWBERRY.as_str() + "\n"
