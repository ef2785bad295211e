"""The service, as `scripts/fuzz` throws requests at it: `uvicorn` with its arguments, and passwords that cost nothing.

A hash takes a quarter of a second by design, which would be most of what signing in a hundred times takes.
"""

import importlib
import runpy
import sys
from pathlib import Path

ROUNDS = 4
NOBODY = b"$2b$04$N/negI3OCz5dXzBbZnUjyewIKXs.kCvEdBiDmmgkv7FChUOERzaiG"

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    passwords = importlib.import_module("app.accounts.passwords")
    vars(passwords).update(ROUNDS=ROUNDS, _NOBODY=NOBODY)
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
