"""The page behind a mailed link: strict, self-contained, and usable in a real browser against the running service."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId
from httpx import AsyncClient
from playwright.sync_api import Browser
from pymongo import MongoClient

from tests.browser import Visit, launched
from tests.factories.accounts import PASSWORD, PASSWORD_HASH
from tests.mailbox import read_directory, tokens_in
from tests.services import NO_TLS, Service, wait_until

NEW = "an entirely different passphrase"
PAGE = "/reset-password"
DONE = "Your new password is set, and you are signed out everywhere. Sign in with it."
NO_GOOD = "This link is wrong, expired, spent or replaced by a newer one"


class TestPage:
    async def test_allows_no_code_but_our_own_files(self, nobody: AsyncClient) -> None:
        answer = await nobody.get(PAGE)

        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert re.findall(r"https?:|//|unsafe|\*", answer.headers["Content-Security-Policy"]) == []
        assert re.findall(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", answer.text) == []

    async def test_loads_only_what_is_served_here(self, nobody: AsyncClient) -> None:
        page = await nobody.get(PAGE)
        files = re.findall(r'(?:src|href)="([^"]*)"', page.text)

        assert len(files) == 3
        for file in files:
            answer = await nobody.get(file)
            assert (file[0], answer.status_code) == ("/", 200)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("name", ["nothing.js", "reset-password.html", "..%2f__init__.py", "%2e%2e/roles.py"])
    async def test_has_no_other_files(self, nobody: AsyncClient, name: str) -> None:
        answer = await nobody.get(f"{PAGE}/files/{name}")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def mail_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reset-page-mail")


@pytest.fixture(scope="module")
def service(mongodb_uri: str, mail_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(own_database(mongodb_uri), tmp_path_factory.mktemp("reset-page") / "output")
    service.environment |= {"MAIL_DIR": str(mail_files), "PUBLIC_URL": service.url, "LOG_LEVEL": "INFO"}
    try:
        service.start()
        yield service
    finally:
        service.kill()


@pytest.fixture
def username(service: Service, mongodb_uri: str) -> str:
    """Somebody new, whose name is an address."""
    user_id = ObjectId()
    row: dict[str, Any] = {"_id": user_id, "username": f"{user_id}@example.com", "password": PASSWORD_HASH}
    with MongoClient[dict[str, Any]](own_database(mongodb_uri)) as client:
        client.get_default_database().users.insert_one(row)
    return str(row["username"])


@pytest.fixture
def token(service: Service, mail_files: Path, username: str) -> str:
    """Of the link that was mailed to them."""
    answer = httpx.post(f"{service.url}/api/password/forgot", json={"username": username}, verify=NO_TLS)
    assert answer.status_code == 202
    wait_until(lambda: tokens_for(username, mail_files) != [])
    (token,) = tokens_for(username, mail_files)
    return token


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 400, "height": 800})
    yield Visit(page, service.url)
    page.close()


def own_database(uri: str) -> str:
    return uri.replace("/test_", "/reset_page_")


def tokens_for(username: str, directory: Path) -> list[str]:
    return tokens_in([mail for mail in read_directory(directory) if mail["To"] == username])


def log_in(service: Service, username: str, password: str) -> int:
    return httpx.post(
        f"{service.url}/api/login", json={"username": username, "password": password}, verify=NO_TLS
    ).status_code


def fill(visit: Visit, password: str, again: str) -> None:
    """As somebody who reads the labels does it."""
    visit.page.get_by_label("New password", exact=True).fill(password)
    visit.page.get_by_label("New password, once more").fill(again)
    visit.page.get_by_role("button", name="Set the password").click()


def read(visit: Visit, text: str) -> None:
    visit.page.get_by_role("status").get_by_text(text, exact=True).wait_for()


class TestInABrowser:
    def test_sets_the_password(self, visit: Visit, service: Service, username: str, token: str) -> None:
        visit.begin(f"{PAGE}#token={token}")

        fill(visit, NEW, NEW)

        read(visit, DONE)
        assert not visit.page.locator("form").is_visible()
        assert (log_in(service, username, NEW), log_in(service, username, PASSWORD)) == (200, 401)
        assert (visit.elsewhere, visit.complaints) == ([], [])

    def test_keeps_the_token_out_of_address_history_and_logs(self, visit: Visit, service: Service, token: str) -> None:
        visit.begin(f"{PAGE}#token={token}")
        visit.page.locator("form").wait_for()

        assert visit.page.url == visit.origin + PAGE
        visit.page.goto(visit.origin + "/healthz")
        visit.page.go_back()
        assert visit.page.url == visit.origin + PAGE
        assert f'"path":"{PAGE}"' in service.output()
        assert token not in service.output()

    def test_shows_what_is_wrong_and_lets_try_again(
        self, visit: Visit, service: Service, username: str, token: str
    ) -> None:
        visit.begin(f"{PAGE}#token={token}")

        fill(visit, NEW, NEW + "x")
        read(visit, "The two passwords are not the same.")
        fill(visit, "password123", "password123")
        read(visit, "password: is one of the most common passwords")
        assert log_in(service, username, PASSWORD) == 200

        fill(visit, NEW, NEW)
        read(visit, DONE)

    def test_says_that_a_link_is_no_good(self, visit: Visit, service: Service, username: str, token: str) -> None:
        used = httpx.post(
            f"{service.url}/api/password/reset", json={"token": token, "password": "the first of all"}, verify=NO_TLS
        )
        assert used.status_code == 204
        visit.begin(f"{PAGE}#token={token}")

        fill(visit, NEW, NEW)

        read(visit, NO_GOOD)
        assert log_in(service, username, NEW) == 401

    def test_takes_a_second_link_in_the_same_tab(self, visit: Visit, token: str) -> None:
        visit.begin(f"{PAGE}#token=pr_of_nobody")
        visit.page.locator("form").wait_for()

        visit.page.goto(f"{visit.origin}{PAGE}#token={token}")
        fill(visit, NEW, NEW)

        read(visit, DONE)

    @pytest.mark.parametrize("fragment", ["", "#", "#token=", "#other=1"])
    def test_without_a_token_it_says_where_to_get_one(self, visit: Visit, fragment: str) -> None:
        visit.begin(PAGE + fragment)

        read(visit, "Open this page by the link in the mail that you were sent.")
        assert not visit.page.locator("form").is_visible()

    def test_says_that_the_service_is_away(self, visit: Visit, token: str) -> None:
        visit.begin(f"{PAGE}#token={token}")
        visit.page.locator("form").wait_for()
        visit.page.route("**/api/**", lambda route: route.abort())

        fill(visit, NEW, NEW)

        read(visit, "The service can't be reached. Please try again.")
        assert visit.page.get_by_role("button", name="Set the password").is_enabled()
