"""Settings from the environment: what is refused, what is warned about, and that no secret is told."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.settings import SAMPLE_SECRETS, Settings, _bare, load_settings
from tests.conftest import SECRET

CHECKOUT = Path(__file__).parents[2]
GOOD = "a random secret that is long enough for anybody"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set, and no .env is found."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def refusal() -> str:
    with pytest.raises(SystemExit) as end:
        load_settings()
    return str(end.value)


class TestSecret:
    @pytest.mark.parametrize(
        "secret",
        [
            *[
                "",
                " ",
                "\t",
                "---",
                *sorted(SAMPLE_SECRETS)[:8],
                "SECRET",
                "  changeme ",
                "Your-Secret",
                "YOUR SECRET_key",
            ],
            *["a-string-secret-at-least-256-bits-long", "your-super-secret-jwt-key-change-this-in-production"],
            *["09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "shhhhh", "your_jwt_secret_key"],
            *["supersecretkey", "thisisasecret", "changethis"],
        ],
    )
    def test_refuses_empty_and_well_known_ones(self, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
        monkeypatch.setenv("JWT_SECRET", secret)

        text = refusal()

        assert text.startswith("JWT_SECRET: ")
        assert "\n" not in text

    def test_refuses_to_start_without(self) -> None:
        assert refusal().startswith("JWT_SECRET: ")

    @pytest.mark.parametrize(("secret", "is_short"), [("xy" * 15 + "x", True), ("xy" * 16, False), ("äö" * 8, False)])
    def test_takes_short_ones_but_knows(self, monkeypatch: pytest.MonkeyPatch, secret: str, *, is_short: bool) -> None:
        monkeypatch.setenv("JWT_SECRET", secret)

        assert load_settings().has_short_secret is is_short

    def test_is_not_in_any_text_of_the_settings(self) -> None:
        settings = Settings(
            jwt_secret=SecretStr(GOOD), admin_password=SecretStr("hunter2"), metrics_token=SecretStr("m-token")
        )

        for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
            assert GOOD not in text
            assert "hunter2" not in text
            assert "m-token" not in text


class TestOrigins:
    @pytest.mark.parametrize(
        ("text", "origins"),
        [
            ("", ()),
            (" , ,", ()),
            ("https://a.example", ("https://a.example",)),
            ("https://a.example/", ("https://a.example",)),
            (" https://a.example , http://localhost:3000/", ("https://a.example", "http://localhost:3000")),
        ],
    )
    def test_are_a_list_with_commas(self, monkeypatch: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)
        monkeypatch.setenv("ALLOWED_ORIGINS", text)

        assert load_settings().allowed_origins == origins


class TestLoadSettings:
    def test_needs_nothing_but_the_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)

        settings = load_settings()

        assert settings.registration == "on"
        assert settings.admin_password is None
        assert settings.metrics_token is None

    def test_an_empty_variable_is_an_absent_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)
        for name in ("MONGODB_URI", "ADMIN_PASSWORD", "METRICS_TOKEN", "REGISTRATION", "LOG_LEVEL"):
            monkeypatch.setenv(name, "")

        assert load_settings() == Settings(jwt_secret=SecretStr(GOOD))

    def test_reads_a_file_but_the_environment_has_the_last_word(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".env").write_text(f"JWT_SECRET='{GOOD}'\nREGISTRATION=off\nLOG_LEVEL=ERROR\nSOMETHING_ELSE=1\n")
        monkeypatch.setenv("LOG_LEVEL", "DEBUG")

        settings = load_settings()

        assert (settings.registration, settings.log_level) == ("off", "DEBUG")
        assert settings.jwt_secret.get_secret_value() == GOOD

    def test_names_every_wrong_one_on_a_line_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JWT_SECRET", "secret")
        monkeypatch.setenv("REGISTRATION", "hunter2")
        monkeypatch.setenv("LOG_LEVEL", "hunter2")
        monkeypatch.setenv("MONGODB_URI", "user:hunter2@db")

        lines = refusal().splitlines()

        names = sorted(line.partition(":")[0] for line in lines)
        assert names == ["JWT_SECRET", "LOG_LEVEL", "MONGODB_URI", "REGISTRATION"]
        assert "hunter2" not in "".join(lines)

    async def test_ends_the_process_with_that_line_alone(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "import app.main"),
            env={"PYTHONPATH": str(CHECKOUT), "JWT_SECRET": "ChangeMe"},
            stdout=PIPE,
            stderr=PIPE,
        )

        out, error = await process.communicate()

        assert process.returncode == 1
        assert out == b""
        assert error.startswith(b"JWT_SECRET: ")
        assert error.count(b"\n") == 1
        assert b"ChangeMe" not in error


class TestMail:
    def test_has_defaults_for_development(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)
        for name in ("MAIL_DIR", "MAIL_FROM", "PUBLIC_URL"):
            monkeypatch.setenv(name, "")

        settings = load_settings()

        assert (settings.mail_dir, settings.mail_from) == (None, "support@example.com")
        assert settings.public_url == "http://localhost:8000"

    @pytest.mark.parametrize(
        ("given", "url"),
        [
            ("https://help.example.com", "https://help.example.com"),
            ("https://help.example.com/", "https://help.example.com"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ],
    )
    def test_links_begin_without_a_slash_at_the_end(
        self, monkeypatch: pytest.MonkeyPatch, given: str, url: str
    ) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)
        monkeypatch.setenv("PUBLIC_URL", given)

        assert load_settings().public_url == url

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[("PUBLIC_URL", url) for url in ("help.example.com", "ftp://a.example", "http://", "https://a.example/b")],
            *[("PUBLIC_URL", url) for url in ("https://a.example?b", "https://a.example#b", "https://u:p@a.example")],
            *[("PUBLIC_URL", url) for url in ("https://a.example b", "https://a.example\n", "javascript:alert()")],
            *[
                ("MAIL_FROM", text)
                for text in ("support", "a@b@c", "a,b@c.example", "a <b@c.example>", "a b@c.example")
            ],
            *[("MAIL_FROM", text) for text in ("a@b.example\r\nBcc: c@d.example", "a@b.example\n", "@", "a@")],
        ],
    )
    def test_refuses_what_would_break_a_link_or_a_header(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)
        monkeypatch.setenv(name, value)

        assert refusal().startswith(f"{name}: ")


class TestExampleFile:
    def test_has_every_setting(self) -> None:
        text = (CHECKOUT / ".env.example").read_text()

        names = {line.lstrip("# ").partition("=")[0] for line in text.splitlines() if "=" in line}
        assert {name.upper() for name in Settings.model_fields} - names == set()

    def test_has_no_secret_that_would_be_taken(self) -> None:
        text = (CHECKOUT / ".env.example").read_text()

        assert SECRET not in text
        given = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith("JWT_SECRET=")]
        assert [secret for secret in given if secret and _bare(secret) not in SAMPLE_SECRETS] == []


class TestDatabase:
    @pytest.mark.parametrize(
        "uri",
        ["db", "https://db", "mongodb://", "mongodb://user:hun@ter2@db/x", "mongodb://db:99999/x", "mongodb://db/a b$"],
    )
    def test_refuses_what_is_no_address_of_one(self, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
        monkeypatch.setenv("JWT_SECRET", GOOD)
        monkeypatch.setenv("MONGODB_URI", uri)

        text = refusal()

        assert text.startswith("MONGODB_URI: ")
        assert "\n" not in text
        assert "ter2" not in text
