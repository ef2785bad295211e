"""The service's settings, read once from the environment (and `.env`) and passed on as values."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

MIN_SECRET_BYTES = 32
# Secrets that tutorials and .env samples carry; a token signed with one of them can be forged by anybody.
SAMPLE_SECRETS = frozenset(
    """changeme change-me change_me default dev development example jwt jwt-secret jwt_secret jwtsecret key
    mysecret mysecretkey my-secret my_secret password please-change-me secret secret-key secret_key secretkey
    supersecret super-secret super_secret test token your-jwt-secret your_jwt_secret your-secret your_secret
    your-secret-key your_secret_key your-256-bit-secret yoursecretkey keyboard-cat 123456 12345678""".split()
)


class Settings(BaseSettings):
    """One field per environment variable of the same name in capitals; an empty variable counts as absent."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    mongodb_uri: str = Field(default="mongodb://127.0.0.1:27017/test?replicaSet=rs0", pattern=r"^mongodb(\+srv)?://.")
    jwt_secret: SecretStr
    admin_username: str | None = None
    admin_password: SecretStr | None = None
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    registration: Literal["on", "off"] = "on"
    metrics_token: SecretStr | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("jwt_secret")
    @classmethod
    def _refuse_sample_secret(cls, secret: SecretStr) -> SecretStr:
        plain = secret.get_secret_value().strip()
        if not plain or plain.casefold() in SAMPLE_SECRETS:
            message = "must be a random secret of your own (32 bytes or more), not empty and not a well-known sample"
            raise ValueError(message)
        return secret

    @field_validator("mongodb_uri")
    @classmethod
    def _refuse_malformed_uri(cls, uri: str) -> str:
        if not uri.startswith("mongodb+srv:"):  # those take a name server to read
            try:
                parse_uri(uri)
            except PyMongoError as error:  # its words name no part of the URI that could be a password
                raise ValueError(str(error)) from None
        return uri

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
        return value

    @property
    def has_short_secret(self) -> bool:
        return len(self.jwt_secret.get_secret_value().encode()) < MIN_SECRET_BYTES


def load_settings() -> Settings:
    """The settings from the environment; ends the process with one clear line per setting that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise SystemExit("\n".join(lines)) from None
