"""The service's settings, read once from the environment (and `.env`) and passed on as values."""

import re
from base64 import b64decode
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

MIN_SECRET_BYTES = 32
KEY_BYTES = 32
_FILLERS = re.compile(r"[-_\s]+")


def _bare(secret: str) -> str:
    """The secret as samples are compared: `Your-Secret Key` is `your_secret_key`."""
    return _FILLERS.sub("", secret.casefold())


# Secrets that tutorials and .env samples carry; a token signed with one of them can be forged by anybody.
SAMPLE_SECRETS = frozenset(
    _bare(secret)
    for secret in """changeme change-me-in-production change-this changethis change-this-secret default dev development
    example jwt jwt-secret jwt-secret-key jwt-key jwtsecret key my-secret my-secret-key my-jwt-secret my-super-secret
    my-super-secret-key my-256-bit-secret my-32-character-ultra-secure-and-ultra-long-secret mysecrettoken password
    please-change-me please-change-this replace-me replace-with-your-secret s3cr3t secret secret-key secret-token
    secretsecret shhh shhhh shhhhh shhhhhh shhhhhhared-secret some-secret somesecret super-secret super-secret-key
    super-secret-jwt-key super-secret-jwt-token-with-at-least-32-characters-long supersecretpassword test
    this-is-a-secret this-is-a-secret-key this-is-my-secret thisisasecret thisismysecret token topsecret top-secret
    a-string-secret-at-least-256-bits-long a-string-secret-at-least-384-bits-long
    a-string-secret-at-least-512-bits-long a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long
    your-jwt-secret your-jwt-secret-key your-jwt-secret-here your-secret your-secret-here your-secret-key
    your-secret-key-here your-secret-token your-super-secret-key your-super-secret-jwt-key your-super-secret-jwt-token
    your-super-secret-jwt-key-change-this your-super-secret-jwt-key-change-in-production
    your-super-secret-jwt-key-change-this-in-production your-secret-key-change-this-in-production
    your-secret-key-change-in-production your-256-bit-secret your-384-bit-secret your-512-bit-secret
    your-very-secret-key keyboard-cat qwerty abc123 123456 12345678 1234567890
    09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7""".split()
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
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    rate_limits: Literal["on", "off"] = "on"
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    mail_dir: Path | None = None
    mail_from: str = Field(default="support@example.com", pattern=r"^[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(\.[\w-]+)*$")
    public_url: str = "http://localhost:8000"
    sendgrid_api_key: SecretStr | None = None
    sendgrid_api_url: str = "https://api.sendgrid.com"
    sendgrid_webhook_key: str | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("jwt_secret")
    @classmethod
    def _refuse_sample_secret(cls, secret: SecretStr) -> SecretStr:
        bare = _bare(secret.get_secret_value())
        if not bare or bare in SAMPLE_SECRETS:
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

    @field_validator("trusted_proxies", "encryption_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _refuse_malformed_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            try:
                is_long_enough = len(b64decode(key.get_secret_value(), altchars=b"-_", validate=True)) == KEY_BYTES
            except ValueError:
                is_long_enough = False
            if not is_long_enough:
                message = "must be keys of 32 bytes in URL-safe base64, separated by commas, the newest first"
                raise ValueError(message)
        return keys

    @field_validator("trusted_proxies")
    @classmethod
    def _refuse_malformed_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                message = f"must be addresses and networks such as 10.0.0.0/8, separated by commas: {error}"
                raise ValueError(message) from None
        return proxies

    @field_validator("public_url", "sendgrid_api_url")
    @classmethod
    def _refuse_malformed_url(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@\\]+/?", url):
            message = "must be an address such as https://help.example.com, without a path"
            raise ValueError(message)
        return url.rstrip("/")

    @field_validator("sendgrid_webhook_key")
    @classmethod
    def _refuse_malformed_public_key(cls, key: str | None) -> str | None:
        if key is None:
            return None
        try:
            is_elliptic = isinstance(load_der_public_key(b64decode(key, validate=True)), EllipticCurvePublicKey)
        except ValueError:
            is_elliptic = False
        if not is_elliptic:
            message = "must be the verification key that SendGrid shows for its event webhook, on one line"
            raise ValueError(message)
        return key

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
