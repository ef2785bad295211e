"""The wire's conventions: camelCase, unknown fields refused, ids as hex, instants in UTC milliseconds."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Self

import orjson
from bson import ObjectId
from bson.tz_util import utc
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from .errors import FieldError, InvalidInput

# Far more than any body has; a megabyte of unknown fields would hold up the event loop to list them all.
MAX_MEMBERS = 200
_WHOLE_SECOND = len("2026-11-22T09:30:00Z")
# Python's own, and what PyMongo gives to the moments that it reads.
_IN_UTC: frozenset[tzinfo | None] = frozenset({UTC, utc})
_CODE_NAMES = {"missing": "required", "extra_forbidden": "unknown_field", "model_type": "object_expected"}
# Where Pydantic's words name a class of ours.
_MESSAGES = {"model_type": "Input should be an object"}


class WireModel(BaseModel):
    """Base of everything that crosses the wire; Python names in snake_case, JSON in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", str_strip_whitespace=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_too_many(cls, data: object) -> object:
        if isinstance(data, Mapping) and len(data) > MAX_MEMBERS:
            raise PydanticCustomError("too_many_fields", "must have at most {limit} fields", {"limit": MAX_MEMBERS})
        return data

    @classmethod
    def parse(cls, data: object) -> Self:
        """The model from decoded JSON. Raises `InvalidInput` naming every wrong field."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidInput(*field_errors(error)) from None


class NoFields(WireModel):
    """What an operation takes that needs to be told nothing; so a typo or a misplaced field is refused here, too."""


def _without_defaults(schema: dict[str, Any]) -> None:
    # A generated client would send them, and so change what nobody asked to change.
    for field in schema["properties"].values():
        field.pop("default", None)


class PatchModel(WireModel):
    """Base of JSON merge patches (RFC 7396): absent leaves as it is, null clears what can be empty."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    def given(self) -> dict[str, Any]:
        """The fields that were sent, by their stored names."""
        return self.model_dump(exclude_unset=True, by_alias=True)


def field_errors(error: ValidationError) -> list[FieldError]:
    """Pydantic's findings in the wire's words, without the offending input."""
    return [
        FieldError(
            field=".".join(str(part) for part in item["loc"]),
            code=_CODE_NAMES.get(item["type"], item["type"]),
            message=_MESSAGES.get(item["type"], item["msg"].removeprefix("Value error, ")),
        )
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _refuse_unstorable(text: str) -> str:
    if "\x00" in text:
        message = "must not contain NUL"
        raise ValueError(message)
    try:
        text.encode()
    except UnicodeEncodeError:
        message = "must be valid Unicode"
        raise ValueError(message) from None
    return text


def _to_object_id(value: object) -> ObjectId:
    if isinstance(value, ObjectId):
        return value
    if isinstance(value, str) and ObjectId.is_valid(value):
        return ObjectId(value)
    message = "must be an id of 24 hexadecimal digits"
    raise ValueError(message)


def stored_name(name: str) -> str:
    """The alias generator of documents: MongoDB's `_id`, and the original's camelCase for the rest."""
    return "_id" if name == "id" else to_camel(name)


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def instants(moments: list[datetime]) -> list[str]:
    """`instant` of each; in a fraction of the time where all are in UTC, since orjson writes them all but alike."""
    if not {moment.tzinfo for moment in moments} <= _IN_UTC:
        return [instant(moment) for moment in moments]
    texts: list[str] = orjson.loads(orjson.dumps(moments, option=orjson.OPT_UTC_Z))
    # Microseconds, and none for a whole second.
    return [text[:23] + "Z" if len(text) > _WHOLE_SECOND else text[:-1] + ".000Z" for text in texts]


# Comes after the length constraints, so that those are checked, and described, as a string's.
STORABLE = AfterValidator(_refuse_unstorable)
# Passwords, tokens and codes: taken to the letter, outer blanks included.
Secret = Annotated[str, StringConstraints(strip_whitespace=False, max_length=4096), STORABLE]
Id = Annotated[
    ObjectId,
    PlainValidator(_to_object_id),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{24}$", "examples": ["6740a1f0c3b2a1d4e5f60718"]}),
]
Instant = Annotated[
    datetime,
    PlainSerializer(instant, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class FieldProblem(WireModel):
    """One wrong field of a request."""

    field: str = Field(description="Dotted path in the body, or the name of the parameter")
    code: str = Field(description="A stable snake_case word")
    message: str


class Problem(WireModel):
    """A refusal as problem details (RFC 9457); further members depend on the code."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="A stable snake_case word that clients can branch on")
    error: str = Field(description="The same text as `detail`")
    request_id: str
    errors: list[FieldProblem] | None = Field(default=None, description="With 422: every wrong field")
    current_version: int | None = Field(default=None, description="With 412: the version to work from")
    mfa_token: str | None = Field(default=None, description="With `mfa_required` at sign-in: for `completeLogin`")


def _encode_stored(value: object) -> str:
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, datetime):
        return instant(value)
    message = f"{type(value).__name__} does not belong on the wire"
    raise TypeError(message)


def to_json(value: object) -> bytes:
    """JSON of plain values as MongoDB gives them: ids as hex, instants as `instant` writes them."""
    return orjson.dumps(value, default=_encode_stored, option=orjson.OPT_PASSTHROUGH_DATETIME)


JsonObject = Mapping[str, Any]
Row = dict[str, Any]
