"""What the AsyncAPI document promises of the service's frames, for whoever receives some."""

import json
from typing import Any

from jsonschema_rs import Draft7Validator

from app.main import TITLE, VERSION
from app.realtime.asyncapi import asyncapi_document

# As a client's tools read it: from the text, and its schemas by the draft that AsyncAPI's own are a superset of.
DOCUMENT: dict[str, Any] = json.loads(json.dumps(asyncapi_document(TITLE, VERSION)))


def message_validator(name: str) -> Draft7Validator:
    """Checks the payload of the document's message of this name."""
    payload = DOCUMENT["components"]["messages"][name]["payload"]
    schema = {"allOf": [payload], "components": DOCUMENT["components"]}
    return Draft7Validator(schema, validate_formats=True, ignore_unknown_formats=False)


_SENT = {
    reference["$ref"].rpartition("/")[2]
    for operation in DOCUMENT["operations"].values()
    if operation["action"] == "send"
    for reference in operation["messages"]
}
_VALIDATORS = {name: message_validator(name) for name in _SENT}


def check_frame(frame: dict[str, Any]) -> None:
    """Raises unless the document says that the service may send this."""
    _VALIDATORS[frame["type"]].validate(frame)
