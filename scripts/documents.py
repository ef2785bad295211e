#!/usr/bin/env python3
"""Writes the documents that are generated from the code; with --check, only says which no longer fit the code."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

import bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = bootstrap.CHECKOUT / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/documents.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    arguments = parser.parse_args()
    bootstrap.reexec("serve")

    sys.path.insert(0, str(bootstrap.CHECKOUT))
    # Importing the app reads the settings; no request is served here, so any secret will do.
    os.environ["JWT_SECRET"] = "nothing is signed with this, it only has to be there"  # noqa: S105 - no secret
    texts = {name: text() for name, text in DOCUMENTS.items()}
    outdated = [name for name, text in texts.items() if not _is(name, text)]
    if arguments.check:
        for name in outdated:
            print(f"docs/{name} does not fit the code; run scripts/documents.py", file=sys.stderr)
        return 1 if outdated else 0
    DOCS.mkdir(exist_ok=True)
    for name in outdated:
        (DOCS / name).write_text(texts[name])
        print(f"Wrote docs/{name}")
    return 0


def _is(name: str, text: str) -> bool:
    file = DOCS / name
    return file.exists() and file.read_text() == text


def openapi() -> str:
    """Return the OpenAPI document as the service serves it, in the order of the code, one value a line."""
    app = importlib.import_module("app.main").app
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def graphql() -> str:
    """Return the GraphQL schema as the service serves it."""
    text: str = importlib.import_module("app.graphql.schema").sdl()
    return text


def asyncapi() -> str:
    """Return the AsyncAPI document as the service serves it, one value a line."""
    main = importlib.import_module("app.main")
    document = importlib.import_module("app.realtime.asyncapi").asyncapi_document(main.TITLE, main.VERSION)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


DOCUMENTS: dict[str, Callable[[], str]] = {
    "openapi.json": openapi,
    "asyncapi.json": asyncapi,
    "schema.graphql": graphql,
}


if __name__ == "__main__":
    sys.exit(main())
