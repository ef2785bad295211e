"""The GraphQL explorer: strict, self-contained, and usable in a real browser against the running service."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx import AsyncClient
from playwright.sync_api import Browser, WebSocket
from pymongo import MongoClient

from app.accounts.roles import Role
from tests.browser import Visit, launched
from tests.services import NO_TLS, Person, Service, person, running, wait_until

FILES = Path(__file__).parents[2] / "app" / "graphql" / "static"
VENDORED = [line.split() for line in (FILES / "vendored.txt").read_text().splitlines() if not line.startswith("#")]
OURS = {"explorer.css", "start-graphiql.js", "vendored.txt"}
TYPES = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
HTML = {"Accept": "text/html"}
# Where GraphiQL writes what was run.
PLACES = ("query", "tabState", "queries")


class TestPage:
    async def test_allows_no_code_but_our_own_files(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/graphql", headers=HTML)

        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "Accept" in answer.headers["Vary"].split(", ")
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert re.findall(r"https?:|//|unsafe-eval|\*", answer.headers["Content-Security-Policy"]) == []
        assert re.findall(r"<script(?! src=)|\son\w+=|javascript:", answer.text) == []

    async def test_loads_only_what_is_served_here(self, nobody: AsyncClient) -> None:
        page = await nobody.get("/graphql", headers=HTML)
        files = re.findall(r'(?:src|href)="([^"]*)"', page.text)

        assert len(files) == 8
        for file in files:
            answer = await nobody.get(file)
            assert (file[0], answer.status_code) == ("/", 200)
            assert answer.headers["Content-Type"].split(";")[0] == TYPES[file.rpartition(".")[2]]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert len(answer.content) > 50

    @pytest.mark.parametrize("name", ["nothing.js", "vendored.txt", "..%2fexplorer.py", "%2e%2e/explorer.py"])
    async def test_has_no_other_files(self, nobody: AsyncClient, name: str) -> None:
        answer = await nobody.get(f"/graphql/files/{name}")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


class TestFiles:
    def test_are_those_of_the_packages(self) -> None:
        sums = {name: sha256 for sha256, name, _package, _path in VENDORED}

        assert {name: hashlib.sha256((FILES / name).read_bytes()).hexdigest() for name in sums} == sums
        assert {file.name for file in FILES.iterdir()} == {*sums, *OURS}

    def test_come_with_their_licences(self) -> None:
        packages = {package for _sha256, _name, package, _path in VENDORED}

        assert {package for _sha256, name, package, _path in VENDORED if name.endswith(".LICENSE")} == packages

    def test_are_small(self) -> None:
        assert sum(file.stat().st_size for file in FILES.iterdir()) < 2_500_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def service(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(mongodb_uri.replace("/test_", "/explorer_"), tmp_path_factory.mktemp("explorer") / "output")
    with running(service):
        yield service


@pytest.fixture
def agents(service: Service, mongodb_uri: str) -> list[Person]:
    """Two agents who are signed in."""
    with MongoClient[dict[str, Any]](mongodb_uri.replace("/test_", "/explorer_")) as client:
        return [person(client.get_default_database(), Role.AGENT) for _ in range(2)]


class Explorer:
    """The page as somebody uses it: edits its panes, runs what is there, reads the result."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.page = visit.page
        self.sockets: list[WebSocket] = []
        self.sent: list[dict[str, Any]] = []
        self.page.on("websocket", self._note_socket)
        visit.begin("/graphql")

    def use_headers(self, headers: dict[str, str]) -> None:
        self._fill(".graphiql-editor-tool .graphiql-editor:not(.hidden)", json.dumps(headers))

    def run(self, operation: str) -> None:
        """Runs an operation that has a name; by the tab's title it can be seen that the page has taken it in."""
        name = operation.split()[1]
        self._fill(".graphiql-query-editor", operation)
        self.page.get_by_role("tab", name=name, exact=True).wait_for()
        self.page.locator(".graphiql-execute-button").click()

    def stop(self) -> None:
        self.page.get_by_role("button", name="Stop query (Ctrl-Enter)").click()

    def expect_result(self, text: str) -> None:
        self.page.locator(".result-window", has_text=text).wait_for()

    def expect_schema(self) -> None:
        docs = self.page.get_by_role("button", name="Show Documentation Explorer")
        if docs.is_visible():
            docs.click()
        self.page.locator(".graphiql-doc-explorer", has_text="mutation: Mutation").wait_for()

    def expect_no_complaint(self) -> None:
        assert (self.visit.elsewhere, self.visit.complaints) == ([], [])
        assert {socket.url for socket in self.sockets} <= {self.visit.origin.replace("http", "ws") + "/graphql"}

    def tokens(self) -> list[str]:
        """What the sockets were opened with, in order."""
        return [message["payload"]["Authorization"] for message in self.sent if message["type"] == "connection_init"]

    def kept(self) -> dict[str, str]:
        """What would still be there tomorrow."""
        return dict(self.page.evaluate("({...localStorage})"))

    def _fill(self, pane: str, text: str) -> None:
        self.page.locator(f"{pane} .CodeMirror").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def _note_socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framesent", lambda frame: self.sent.append(json.loads(frame)))


@pytest.fixture
def explorer(browser: Browser, service: Service) -> Iterator[Explorer]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield Explorer(Visit(page, service.url))
    page.close()


def open_ticket(service: Service, headers: dict[str, str], title: str) -> None:
    body = {"title": title, "description": "Tray 2 is empty", "priority": "High"}
    assert httpx.post(f"{service.url}/api/tickets", headers=headers, json=body, verify=NO_TLS).status_code == 201


def present_cursor(service: Service, headers: dict[str, str]) -> str:
    return str(httpx.get(f"{service.url}/api/events", headers=headers, verify=NO_TLS).json()["nextCursor"])


def live(cursor: str) -> str:
    """The subscription from a place that comes before the change, so that no race decides whether it is seen."""
    return f'subscription Live {{ ticketEvents(since: "{cursor}") {{ type ticket {{ id title }} cursor }} }}'


class TestInABrowser:
    def test_says_where_the_token_goes_and_asks_for_none_before(self, explorer: Explorer) -> None:
        explorer.page.locator(".graphiql-editor-tool", has_text='"Authorization": "Bearer "').wait_for()
        explorer.page.get_by_role("button", name="Show Documentation Explorer").click()
        explorer.page.get_by_text("No GraphQL schema available").wait_for()

        explorer.expect_no_complaint()

    def test_runs_every_kind_of_operation_with_the_token(
        self, explorer: Explorer, service: Service, agents: list[Person]
    ) -> None:
        agent = agents[0]
        open_ticket(service, agent.headers, "No paper")
        explorer.use_headers(agent.headers)
        explorer.expect_schema()

        explorer.run("query Titles { tickets { id title } }")
        explorer.expect_result('"title": "No paper"')

        explorer.run('mutation Open { createTicket(ticketInput: {title: "No ink", description: "None"}) { title } }')
        explorer.expect_result('"title": "No ink"')

        explorer.run(live(present_cursor(service, agent.headers)))
        open_ticket(service, agent.headers, "No light")
        explorer.expect_result('"title": "No light"')
        explorer.expect_result('"type": "ticket.created"')
        explorer.stop()

        explorer.expect_no_complaint()

    def test_opens_another_socket_for_another_token_and_keeps_none(
        self, explorer: Explorer, service: Service, agents: list[Person]
    ) -> None:
        for number, agent in enumerate(agents):
            cursor = present_cursor(service, agent.headers)
            explorer.use_headers(agent.headers)
            explorer.expect_schema()
            explorer.run(live(cursor))
            open_ticket(service, agent.headers, f"Lamp {number}")
            explorer.expect_result(f'"title": "Lamp {number}"')
            explorer.stop()

        assert explorer.tokens() == [agent.headers["Authorization"] for agent in agents]
        explorer.expect_no_complaint()
        wait_until(
            lambda: all("subscription Live" in explorer.kept().get(f"ticketing:graphiql:{name}", "") for name in PLACES)
        )
        for token in explorer.tokens():
            assert token.removeprefix("Bearer ") not in json.dumps(explorer.kept())
        assert explorer.page.evaluate("sessionStorage.length") == 0

    def test_explains_a_refused_token_and_recovers(self, explorer: Explorer, agents: list[Person]) -> None:
        explorer.use_headers({"Authorization": "Bearer of no token"})

        explorer.run("query Titles { tickets { id title } }")
        explorer.expect_result('"Invalid or expired token"')
        explorer.run("subscription Live { ticketEvents { type } }")
        explorer.expect_result("put another token into the headers and run this again")
        explorer.expect_result('"closeCode": 4403')
        assert len(explorer.sockets) == 1

        explorer.use_headers(agents[0].headers)
        explorer.expect_schema()
        explorer.run("query Me { me { username } }")
        explorer.expect_result(agents[0].username)

    def test_says_that_the_session_is_over(self, explorer: Explorer, service: Service, agents: list[Person]) -> None:
        cursor = present_cursor(service, agents[0].headers)
        explorer.use_headers(agents[0].headers)
        explorer.run(live(cursor))
        open_ticket(service, agents[0].headers, "Last")
        explorer.expect_result('"title": "Last"')

        assert httpx.post(f"{service.url}/api/logout", headers=agents[0].headers, verify=NO_TLS).status_code == 204
        explorer.expect_result("its session has ended: put another into the headers and run this again")
        explorer.expect_result('"closeCode": 4401')

        assert len(explorer.sockets) == 1

    def test_says_that_the_connection_is_lost_and_comes_back(
        self, explorer: Explorer, service: Service, agents: list[Person]
    ) -> None:
        cursor = present_cursor(service, agents[0].headers)
        explorer.use_headers(agents[0].headers)
        explorer.expect_schema()
        explorer.run(live(cursor))
        open_ticket(service, agents[0].headers, "Before")
        explorer.expect_result('"title": "Before"')

        service.kill()
        explorer.expect_result("There is no connection; trying again (1 of 5)")
        service.start()
        open_ticket(service, agents[0].headers, "After")
        explorer.expect_result('"title": "After"')
