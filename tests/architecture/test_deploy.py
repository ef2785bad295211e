"""Facts of the image and of the Compose file that would otherwise break unnoticed until somebody deploys."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are not among the development packages

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = {"mongo", "api"}
MONGODS = {"mongo1", "mongo2", "mongo3"}
CLUSTER = MONGODS | {"api1", "api2", "proxy"}
APIS = ("api", "api1", "api2")


class Instruction(NamedTuple):
    word: str
    text: str


@cache
def stages() -> list[list[Instruction]]:
    """The Dockerfile's instructions, one list for each FROM."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, text = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word, text.strip()))
    return found


def texts(stage: list[Instruction], word: str) -> list[str]:
    return [instruction.text for instruction in stage if instruction.word == word]


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][name]
    return found


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def graceful_timeout() -> int:
    words = shlex.split(texts(stages()[-1], "CMD")[0].strip("[]").replace(",", " "))
    return int(words[words.index("--timeout-graceful-shutdown") + 1])


def images() -> Iterator[str]:
    for stage in stages():
        yield texts(stage, "FROM")[0].split()[0]
    for definition in compose()["services"].values():
        if "image" in definition:
            yield definition["image"]


class TestImage:
    def test_lock_is_installed_with_hashes_before_the_code_arrives(self) -> None:
        build = stages()[0]
        order = [i for i, step in enumerate(build) if "requirements.txt" in step.text or step.text.startswith("app ")]
        copy_lock, install, copy_app = (build[i] for i in order)

        assert copy_lock == Instruction("COPY", "requirements.txt /tmp/requirements.txt")
        assert {"--require-hashes", "--no-deps"} <= set(install.text.split())
        assert copy_app.word == "COPY"

    def test_last_stage_installs_nothing_and_takes_only_what_runs(self) -> None:
        last = stages()[-1]

        assert not re.search(r"\b(install|apt-get|apk|curl|wget)\b", " ".join(texts(last, "RUN")))
        assert "pip uninstall" in " ".join(texts(last, "RUN"))
        assert texts(last, "COPY") == ["--from=build /opt/venv /opt/venv", "--from=build /srv/app /srv/app"]
        assert texts(last, "ADD") == []

    def test_user_is_a_fixed_number_other_than_root(self) -> None:
        user = texts(stages()[-1], "USER")[-1]

        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)

    def test_health_check_asks_the_process_without_foreign_tools(self) -> None:
        (check,) = texts(stages()[-1], "HEALTHCHECK")

        assert 'CMD ["python", ' in check
        assert "/healthz" in check

    def test_signals_reach_the_server(self) -> None:
        (command,) = texts(stages()[-1], "CMD")

        assert command.startswith('["uvicorn", "app.main:app", ')
        assert texts(stages()[-1], "ENTRYPOINT") == []

    def test_context_is_an_allow_list(self) -> None:
        rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

        assert rules[0] == "*"
        assert {rule for rule in rules if rule[0] == "!"} == {"!app", "!requirements.txt"}


class TestCompose:
    def test_every_setting_is_documented(self) -> None:
        documented = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
        interpolated = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))
        passed = {key for name in APIS for key in service(name)["environment"]}

        assert (interpolated | passed) - documented == set()

    def test_secret_has_no_default(self) -> None:
        for name in APIS:
            assert service(name)["environment"]["JWT_SECRET"].startswith("${JWT_SECRET:?")

    def test_profiles_divide_the_services(self) -> None:
        services = compose()["services"]

        assert {name for name in services if "profiles" not in services[name]} == DEFAULT
        assert {name for name in services if services[name].get("profiles") == ["cluster"]} == CLUSTER

    def test_neither_half_needs_the_other(self) -> None:
        for half in (DEFAULT, CLUSTER):
            assert {needed for name in half for needed in service(name).get("depends_on", {})} <= half

    def test_cluster_has_three_databases_two_copies_and_one_proxy(self) -> None:
        cluster = [service(name) for name in CLUSTER]

        assert sum(s.get("image", "").startswith("mongo:") for s in cluster) == len(MONGODS)
        assert sum(s.get("build") == "." for s in cluster) == 2
        assert sum(s.get("image", "").startswith("haproxy:") for s in cluster) == 1

    def test_databases_are_reached_by_the_service_alone(self) -> None:
        for name in {"mongo", *MONGODS}:
            assert "ports" not in service(name)
            assert all(compose()["networks"][network]["internal"] for network in service(name)["networks"])
            assert "/data/db" in [volume.split(":")[1] for volume in service(name)["volumes"]]

    def test_founding_members_are_those_that_the_service_connects_to(self) -> None:
        for founder, name in (("mongo", "api"), ("mongo1", "api1"), ("mongo1", "api2")):
            members = service(founder)["environment"]["REPLICA_SET_MEMBERS"].split()
            uri = service(name)["environment"]["MONGODB_URI"]

            assert uri.startswith(f"mongodb://{','.join(members)}/")
            assert {member.split(":")[0] for member in members} == set(service(name)["depends_on"])
            assert all(needed == {"condition": "service_healthy"} for needed in service(name)["depends_on"].values())

    @pytest.mark.parametrize("name", sorted(DEFAULT | CLUSTER))
    def test_container_is_confined(self, name: str) -> None:
        definition = service(name)

        assert definition["read_only"] is True
        assert definition["cap_drop"] == ["ALL"]
        assert "cap_add" not in definition
        assert "privileged" not in definition
        assert definition["security_opt"] == ["no-new-privileges:true"]

    def test_stopping_waits_for_requests_under_way(self) -> None:
        for name in APIS:
            assert seconds(service(name)["stop_grace_period"]) > graceful_timeout()

    def test_images_are_pinned(self) -> None:
        found = list(images())

        assert len(found) == 7
        for image in found:
            assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image


class TestProxy:
    @staticmethod
    def sections() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in (ROOT / "scripts/deploy/haproxy.cfg").read_text().splitlines():
            if line and not line[0].isspace() and line[0] != "#":
                found[line] = current = []
            elif line.strip() and not line.lstrip().startswith("#"):
                current.append(line.strip())
        return found

    def test_backends_name_both_copies(self) -> None:
        for name in ("backend api", "backend streams"):
            servers = {line.split()[2] for line in self.sections()[name] if line.startswith("server ")}

            assert servers == {"api1:8000", "api2:8000"}

    def test_only_harmless_methods_are_sent_twice(self) -> None:
        for name in ("backend api", "backend streams"):
            assert "http-request disable-l7-retry if !{ method GET HEAD OPTIONS }" in self.sections()[name]

    def test_client_cannot_forge_its_address(self) -> None:
        rules = self.sections()["frontend http"]

        assert "http-request del-header X-Forwarded- -m beg" in rules
        assert "http-request set-header X-Forwarded-For %[src]" in rules
        assert not [line for lines in self.sections().values() for line in lines if line == "option forwardfor"]

    def test_no_response_is_held_back(self) -> None:
        assert not [line for lines in self.sections().values() for line in lines if "http-buffer" in line]
