"""The schema: its roots, and the text that clients are generated from."""

from functools import cache

import strawberry
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.name_converter import NameConverter

from .mutation import Mutation
from .query import Query
from .scalars import SCALARS, read_member
from .subscription import Subscription


class _Names(NameConverter):
    """Makes each name once: Strawberry asks for those of all fields of an input each time that one comes."""

    apply_naming_config = cache(NameConverter.apply_naming_config)


_STRAWBERRY = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    config=StrawberryConfig(default_resolver=read_member, scalar_map=SCALARS, name_converter=_Names()),
)
# What parses, validates and executes; Strawberry itself has no public name for it.
SCHEMA = _STRAWBERRY._schema  # noqa: SLF001


@cache
def sdl() -> str:
    """The schema in the schema definition language."""
    return _STRAWBERRY.as_str() + "\n"
