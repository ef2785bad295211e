"""Rules of the code base that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import app

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "app").rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
# Nobody else reads or writes tickets past these, which ask the policy first.
MAY_TOUCH_TICKETS = {"app/tickets/queries.py", "app/tickets/commands.py", "app/lifespan.py", "app/tickets/documents.py"}


def path_of(source: Path) -> str:
    return str(source.relative_to(ROOT))


def functions(source: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("source", SOURCES, ids=path_of)
def test_modules_and_functions_stay_small(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= MAX_MODULE_LINES
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(source)}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("source", SOURCES, ids=path_of)
def test_every_module_says_what_it_owns(source: Path) -> None:
    assert ast.get_docstring(ast.parse(source.read_text()))


def test_tickets_are_reached_only_through_queries_and_commands() -> None:
    uses = {
        path_of(source)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Name) and node.id == "Ticket"
    }

    assert uses <= MAY_TOUCH_TICKETS


def test_there_is_no_utils() -> None:
    assert [path_of(s) for s in SOURCES if s.stem in {"utils", "helpers", "common", "lib", "misc"}] == []


def test_decisions_are_short_and_have_their_four_parts() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert decisions
    for number, decision in enumerate(decisions, start=1):
        text = decision.read_text()
        assert decision.name.startswith(f"{number:04}-")
        assert len(text.splitlines()) <= 40, decision.name
        for part in ("## Context", "## Decision", "## Consequences", "## Rejected"):
            assert part in text, (decision.name, part)


def test_the_top_level_is_as_agreed() -> None:
    tracked = {"app", "docs", "scripts", "tests", "Dockerfile", "README.md", "docker-compose.yml", "pyproject.toml"}
    allowed = tracked | {"requirements.txt"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert tracked <= found <= allowed


def test_every_place_named_in_the_readme_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readme_names_every_dependency() -> None:
    readme = (ROOT / "README.md").read_text()
    pyproject = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("\n]")[0]
    names = re.findall(r'"([a-zA-Z0-9-]+)', pyproject)
    assert len(names) > 10
    for name in names:
        assert f"`{name}`" in readme, name


def test_the_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    for line in (ROOT / ".env.example").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            assert f"`{line.partition('=')[0]}`" in readme, line


def test_the_services_version_is_the_projects() -> None:
    assert f'version = "{app.version}"' in (ROOT / "pyproject.toml").read_text()
