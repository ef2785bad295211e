#!/usr/bin/env python3
"""Writes docs/openapi.json from the code; with --check, only says whether the committed file still fits the code."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys

import bootstrap

FILE = bootstrap.CHECKOUT / "docs" / "openapi.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/openapi.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    arguments = parser.parse_args()
    bootstrap.reexec("serve")

    text = document()
    is_current = FILE.exists() and FILE.read_text() == text
    if arguments.check:
        if not is_current:
            print("docs/openapi.json does not fit the code; run scripts/openapi.py", file=sys.stderr)
        return 0 if is_current else 1
    if not is_current:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(text)
        print(f"Wrote {FILE.relative_to(bootstrap.CHECKOUT)}")
    return 0


def document() -> str:
    """Return the document as the service serves it, in the order of the code, one value a line."""
    sys.path.insert(0, str(bootstrap.CHECKOUT))
    # Importing the app reads the settings; no request is served here, so any secret will do.
    os.environ["JWT_SECRET"] = "nothing is signed with this, it only has to be there"  # noqa: S105 - no secret
    app = importlib.import_module("app.main").app
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
