"""The checkout's one virtual environment: made from the lock files when missing, then entered by every script."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
OLDEST, NEWEST = (3, 11), (3, 13)
# Installing the one leaves the other satisfied too.
INCLUDES = {"dev": ("dev", "serve"), "serve": ("serve",)}
GUARD = "TICKETING_INSIDE_VENV"


def lock_file(lock: str) -> Path:
    return CHECKOUT / "scripts" / "requirements" / (lock + ".txt")


def ensure_environment(lock: str) -> Path:
    """Return the Python of a `.venv` that has what the lock ("serve" or "dev") lists; nearly free when it has."""
    if not _is_current(lock):
        base = _suitable_python()
        # An exclusive lock on a file that is there anyway: a second script waits, then finds the work done.
        with Path(__file__).open("a") as claim:
            fcntl.flock(claim, fcntl.LOCK_EX)
            # An installer that outlives a killed script keeps the lock until it has ended.
            os.set_inheritable(claim.fileno(), True)
            if not _is_current(lock):
                _build(lock, base)
    return PYTHON


def reexec(lock: str) -> None:
    """Go on in the `.venv`'s Python, in this same process, so that signals and exit codes need no passing on."""
    try:
        python = ensure_environment(lock)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if Path(sys.prefix).resolve() == VENV.resolve():
        os.environ.pop(GUARD, None)
        return
    if os.environ.get(GUARD):
        raise SystemExit(f"{python} does not run inside {VENV}; unset PYTHONHOME, or delete {VENV} and start again")
    os.environ[GUARD] = "1"
    os.execv(python, [str(python), str(Path(sys.argv[0]).resolve()), *sys.argv[1:]])  # noqa: S606 - ours


def _digest(lock: str) -> str:
    return hashlib.sha256(lock_file(lock).read_bytes()).hexdigest()


def _stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _is_current(lock: str) -> bool:
    stamp = _stamp()
    if stamp.get(lock) != _digest(lock) or not PYTHON.exists():
        return False
    # Only from inside can it be seen that the system's Python, which .venv points to, became another version.
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    return not inside or stamp.get("python") == _version(sys.version_info[:2])


def write_stamp(lock: str, version: str) -> None:
    stamp = {"python": version, **{name: _digest(name) for name in INCLUDES[lock]}}
    draft = STAMP.with_suffix(".new")
    draft.write_text(json.dumps(stamp))
    draft.replace(STAMP)


def _version(info: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in info)


def _suitable_python() -> str:
    """Choose the Python to build on: this one when its version suits, else one of the PATH that does."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return getattr(sys, "_base_executable", "") or sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # A version manager's stand-in is on the PATH even when the version behind it is not installed.
        if found and _succeeds([found, "-c", ""]):
            return found
    raise SystemExit(
        f"Python {_version(OLDEST)} to {_version(NEWEST)} is needed, and this is {_version(sys.version_info[:3])}; "
        f"install one of them (Debian 12 or newer: apt-get install python3 python3-venv)"
    )


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _build(lock: str, base: str) -> None:
    began = time.monotonic()
    if _stamp() and _succeeds([str(PYTHON), "-m", "pip", "--version"]):
        _say("Updating .venv …")
        installer = [str(PYTHON), "-m", "pip"]
        # Without its stamp an interrupted update is built anew next time.
        STAMP.unlink()
    else:
        _say("Setting up .venv (once, about a minute) …")
        installer = _make_venv(base)
    command = [*installer, "install", "--quiet", "--require-hashes", "-r", str(lock_file(lock))]
    # What pip thinks of the machine's own configuration helps only when it fails.
    done = subprocess.run(command, check=False, close_fds=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        raise SystemExit(
            f"Setting up .venv failed: the packages of {lock_file(lock)} could not be installed (see above)"
        )
    report = subprocess.run(
        [str(PYTHON), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        check=True,
        text=True,
    )
    write_stamp(lock, report.stdout.strip())
    _say(f".venv is ready after {time.monotonic() - began:.0f} s")


def _make_venv(base: str) -> list[str]:
    """Make an empty `.venv` in the first way this machine allows, and return the command that installs into it."""
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    ways = (_with_ensurepip, _with_system_pip, _with_uv, _with_apt)
    for way in ways:
        shutil.rmtree(VENV, ignore_errors=True)
        installer = way(base)
        if installer:
            return installer
    raise SystemExit(
        "Setting up .venv needs pip or venv: install one (Debian: apt-get install python3-venv) and start again"
    )


def _with_ensurepip(base: str) -> list[str]:
    return [str(PYTHON), "-m", "pip"] if _succeeds([base, "-m", "venv", str(VENV)]) else []


def _with_system_pip(base: str) -> list[str]:
    try:
        report = subprocess.run([base, "-m", "pip", "--version"], capture_output=True, check=False, text=True)
    except OSError:
        return []
    found = re.match(r"pip (\d+)\.(\d+)", report.stdout)
    # The first pip that can install into another environment than its own.
    if not found or (int(found.group(1)), int(found.group(2))) < (22, 3):
        return []
    made = _succeeds([base, "-m", "venv", "--without-pip", str(VENV)])
    return [base, "-m", "pip", "--python", str(PYTHON)] if made else []


def _with_uv(base: str) -> list[str]:
    uv = shutil.which("uv")
    if not uv or not _succeeds([uv, "venv", "--quiet", "--python", base, str(VENV)]):
        return []
    # Its `pip install` takes the environment from this variable, so the rest of the command is the same as pip's.
    os.environ["VIRTUAL_ENV"] = str(VENV)
    return [uv, "pip"]


def _with_apt(base: str) -> list[str]:
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0 or _succeeds([base, "-c", "from ensurepip import bootstrap"]):
        return []
    _say("Installing the system package python3-venv by apt-get, which .venv needs …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "python3-venv"]):
        subprocess.run([apt, *arguments], check=False, env=environment, stdout=sys.stderr)
    return _with_ensurepip(base)
