"""The reference pages: strict, self-contained, and usable in a real browser against the running service."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from httpx import AsyncClient
from playwright.sync_api import Browser
from pymongo import MongoClient

from app.accounts.roles import Role
from app.main import app as application
from tests.browser import Visit, launched
from tests.factories.accounts import PASSWORD
from tests.services import NO_TLS, Service, person, running

PAGES = ("/docs", "/redoc")
TYPES = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
OPERATIONS = [spec for methods in application.openapi()["paths"].values() for spec in methods.values()]


class TestPage:
    @pytest.mark.parametrize("path", PAGES)
    async def test_allows_no_code_but_our_own_files(self, nobody: AsyncClient, path: str) -> None:
        answer = await nobody.get(path)

        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert re.findall(r"https?:|//|unsafe-eval|\*", answer.headers["Content-Security-Policy"]) == []
        assert re.findall(r"<script(?! src=)|\son\w+=|javascript:", answer.text) == []

    @pytest.mark.parametrize("path", PAGES)
    async def test_loads_only_what_is_served_here(self, nobody: AsyncClient, path: str) -> None:
        page = await nobody.get(path)
        files = re.findall(r'(?:src|href)="([^"]*)"', page.text)

        assert len(files) >= 3
        for file in files:
            answer = await nobody.get(file)
            assert (file[0], answer.status_code) == ("/", 200)
            assert answer.headers["Content-Type"].split(";")[0] == TYPES[file.rpartition(".")[2]]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert len(answer.content) > 50

    @pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "%2e%2e/__init__.py", "redoc.html"])
    async def test_has_no_other_files(self, nobody: AsyncClient, name: str) -> None:
        answer = await nobody.get(f"/docs/files/{name}")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def service(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(mongodb_uri.replace("/test_", "/pages_"), tmp_path_factory.mktemp("pages") / "output")
    with running(service):
        yield service


@pytest.fixture
def agent(service: Service, mongodb_uri: str) -> dict[str, Any]:
    """An Agent who has just signed in: the login's answer."""
    with MongoClient[dict[str, Any]](mongodb_uri.replace("/test_", "/pages_")) as client:
        username = person(client.get_default_database(), Role.AGENT).username
    answer = httpx.post(f"{service.url}/api/login", json={"username": username, "password": PASSWORD}, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    yield Visit(page, service.url)
    page.close()


class TestInABrowser:
    def test_swagger_lists_everything_and_calls_the_service(self, visit: Visit, agent: dict[str, Any]) -> None:
        visit.begin("/docs")
        page = visit.page

        page.locator(".opblock").nth(len(OPERATIONS) - 1).wait_for()
        assert page.locator(".opblock").count() == len(OPERATIONS)
        assert page.locator(".opblock .authorization__btn").count() == sum("security" in spec for spec in OPERATIONS)

        page.locator(".btn.authorize").first.click()
        page.locator(".auth-container input").fill(agent["token"])
        page.locator(".auth-btn-wrapper .authorize").click()
        page.locator(".auth-btn-wrapper .btn-done").click()
        operation = page.locator("#operations-me-getMe")
        operation.locator(".opblock-summary-control").click()
        operation.locator(".try-out__btn").click()
        operation.locator(".execute").click()

        live = operation.locator(".live-responses-table .response")
        live.wait_for()
        assert live.locator(".response-col_status").inner_text().startswith("200")
        assert agent["user"]["username"] in live.inner_text()
        assert (visit.elsewhere, visit.complaints) == ([], [])

    def test_redoc_lists_everything(self, visit: Visit) -> None:
        visit.begin("/redoc")

        for spec in OPERATIONS:
            visit.page.locator(f'[data-section-id$="/operation/{spec["operationId"]}"]').first.wait_for(
                state="attached"
            )
        assert (visit.elsewhere, visit.complaints) == ([], [])
