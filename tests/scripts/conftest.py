"""A database for programs that people run by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from tests.services import Rows


@pytest.fixture
def uri(mongodb_uri: str) -> str:
    return mongodb_uri.replace("/test_", "/scripts_")


@pytest.fixture
def rows(uri: str) -> Iterator[Rows]:
    """Empty, and gone afterwards."""
    with MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        yield database
        client.drop_database(database.name)
