"""Programs of ours in processes of their own, forked from one that has imported already what they will import.

Importing takes longer than all that most of these processes do. All else is as if they had been started by their
command: environment, output, signals and exit code are their own.
"""

import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKED = get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        *("app.main", "uvicorn.main", "uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
        *("uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto"),
    ]
)


def launch(module: str, *arguments: str, environment: Mapping[str, str], output: Path) -> BaseProcess:
    """`python -m module arguments`; what it writes is appended to the file. It ends with us at the latest."""
    process = _FORKED.Process(target=_run, args=(module, arguments, dict(environment), output), daemon=True)
    process.start()
    return process


def _run(module: str, arguments: tuple[str, ...], environment: dict[str, str], output: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    # It reads the environment when it is imported.
    sys.modules.pop("app.main", None)
    with output.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
