#!/usr/bin/env python3
"""Fetches GraphiQL's files again from the npm packages that app/graphql/static/vendored.txt names; needs npm.

A file whose sum differs is refused. To move to other versions, change them in the list and say --renew.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

import bootstrap

FOLDER = bootstrap.CHECKOUT / "app" / "graphql" / "static"
LIST = FOLDER / "vendored.txt"


class Vendored(NamedTuple):
    sha256: str
    name: str
    package: str
    path: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/graphiql.py", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="take what the packages hold, and write down its sums")
    arguments = parser.parse_args()

    lines = LIST.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    listed = [Vendored(*line.split()) for line in lines if not line.startswith("#")]
    contents = _fetch(listed)
    fetched = [file._replace(sha256=hashlib.sha256(contents[file]).hexdigest()) for file in listed]
    if fetched != listed and not arguments.renew:
        names = ", ".join(new.name for old, new in zip(listed, fetched, strict=True) if old != new)
        print(f"Other sums than in {LIST.name}, nothing was written: {names}", file=sys.stderr)
        return 1
    for file in listed:
        (FOLDER / file.name).write_bytes(contents[file])
    LIST.write_text("\n".join([*comments, *map(" ".join, fetched)]) + "\n")
    print(f"Wrote {len(listed)} files, {sum(map(len, contents.values())):,} bytes")
    return 0


def _fetch(files: list[Vendored]) -> dict[Vendored, bytes]:
    contents = {}
    with tempfile.TemporaryDirectory() as directory:
        for package in dict.fromkeys(file.package for file in files):
            npm = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", directory, package]
            archive = subprocess.run(npm, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
            with tarfile.open(Path(directory) / archive) as packed:
                for file in files:
                    if file.package == package:
                        contents[file] = _member(packed, file.path)
    return contents


def _member(packed: tarfile.TarFile, path: str) -> bytes:
    member = packed.extractfile(f"package/{path}")
    if member is None:
        raise SystemExit(f"{path} is no file")
    return member.read()


if __name__ == "__main__":
    sys.exit(main())
