"""How to reach NATS: one frozen value, from a mapping (a section of a secrets file) and the environment."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .errors import SettingsError, SubjectError, one_of
from .subjects import check_service, check_stream_name

SCHEMES = ("nats", "tls", "ws", "wss")
DEFAULT_PORT = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}

ENVIRONMENT = {
    "NATS_URL": "url",
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_NKEY": "nkey",
    "NATS_CREDS": "credentials",
    "NATS_CA": "tls_ca",
    "NATS_CERT": "tls_cert",
    "NATS_KEY": "tls_key",
    "NATS_DOMAIN": "domain",
    "NATS_API_PREFIX": "api_prefix",
    "NATS_INBOX_PREFIX": "inbox_prefix",
    "NATS_ROLE": "role",
}
"""Environment variable to setting; a variable that is set and not empty wins over the mapping."""


@dataclass(frozen=True)
class Settings:
    """Where NATS is, and how to log in. Secrets are kept out of repr, messages and logs."""

    url: str = "nats://127.0.0.1:4222"
    """One server or several, separated by commas: nats://, tls://, ws:// or wss://, host and port.
    User and password, or a token, may stand in the URL; the settings below are the better place."""
    user: str | None = field(default=None, repr=False)
    """User name, together with `password`."""
    password: str | None = field(default=None, repr=False)
    """Password of `user`."""
    token: str | None = field(default=None, repr=False)
    """A token, for servers that are set up with one."""
    nkey: str | None = field(default=None, repr=False)
    """An nkey user seed (SU…), or the path of a file that holds one."""
    credentials: str | None = None
    """Path of a .creds file (user JWT and seed), as `nsc` and managed services hand out."""
    tls_ca: str | None = None
    """Path of the CA certificates (PEM) that the server's certificate is checked against, in place of
    the system's."""
    tls_cert: str | None = None
    """Path of our own client certificate (PEM), for servers that ask for one."""
    tls_key: str | None = None
    """Path of the private key of `tls_cert` (PEM); not needed where the certificate file holds it too."""
    tls_hostname: str | None = None
    """The name in the server's certificate, where it is not the host of the URL."""
    domain: str | None = None
    """JetStream domain, for streams behind a leaf node."""
    api_prefix: str | None = None
    """What stands in place of `$JS.API` in requests to JetStream, where an account imports another's API
    under a name of its own. A domain is such a prefix too, so set one of the two."""
    inbox_prefix: str = "_INBOX"
    """Where answers are delivered: the login must permit to subscribe to what is below it."""
    role: str | None = None
    """The role to take on: the login is then used for nothing but asking the token service for a short-lived
    user JWT of this role, again before each one ends."""
    streams: str | None = None
    """Streams to list, separated by commas, those of buckets with their prefix `KV_`: for logins that may
    read some, and not ask for a list of all. Default: the server is asked."""
    services: str | None = None
    """Names of services to find, separated by commas: for logins that may not look for all. Default: all."""
    name: str = "lookback"
    """The connection's name in the server's monitoring."""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def load(
        cls, mapping: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
    ) -> "Settings":
        """Settings from `mapping` (such as `[connections.nats]`), overridden by the environment.

        `env` defaults to os.environ. Raises SettingsError on an unknown key, a value of the wrong type,
        a file that cannot be read, or logins that exclude each other; never with a secret in its text.
        """
        env = os.environ if env is None else env
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in (mapping or {}).items():
            if key not in known:
                raise SettingsError(f"Unknown setting {key!r}. " + one_of(key, known, what="setting"))
            if isinstance(value, list | tuple) and key == "url":
                value = ",".join(str(part) for part in value)
            if not isinstance(value, str):
                raise SettingsError(f"The setting {key!r} must be a text, not {type(value).__name__}.")
            values[key] = value
        for variable, key in ENVIRONMENT.items():
            if env.get(variable):
                values[key] = env[variable]
        return cls(**{key: value for key, value in values.items() if value != ""})

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs, one by one, with the port written out. They may carry credentials: never show them."""
        return tuple(_with_port(part.strip()) for part in self.url.split(",") if part.strip())

    @property
    def shown(self) -> str:
        """The servers as they may be shown to anyone: without user, password or token."""
        return ", ".join(without_credentials(server) for server in self.servers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context, or None where neither a setting nor a URL asks for TLS. Raises SettingsError."""
        secure = any(urlsplit(server).scheme in ("tls", "wss") for server in self.servers)
        if not (secure or self.tls_ca or self.tls_cert or self.tls_hostname):
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(f"tls_ca: {self.tls_ca!r} holds no readable PEM certificates.") from error
        if self.tls_cert:
            try:
                context.load_cert_chain(self.tls_cert, self.tls_key, password=_no_passphrase)
            except (ssl.SSLError, OSError) as error:
                raise SettingsError(
                    f"tls_cert, tls_key: {self.tls_cert!r} and {self.tls_key!r} are no certificate and its "
                    f"unencrypted key in PEM ({error.__class__.__name__})."
                ) from error
        return context

    def login(self) -> dict[str, Any]:
        """The arguments of `nats.connect` that log in. Reads the files anew, so that a renewed file counts.

        Raises SettingsError when a file is missing or does not hold what it should.
        """
        if self.credentials:
            return {"user_credentials": str(_checked_creds(self.credentials))}
        if self.nkey:
            return {"nkeys_seed_str": _seed(self.nkey)}
        if self.token:
            return {"token": self.token}
        if self.user:
            return {"user": self.user, "password": self.password or ""}
        return {}

    @property
    def login_setting(self) -> str:
        """The name of the setting that logs in, for messages: "user", "credentials", …"""
        for name in ("credentials", "nkey", "token", "user"):
            if getattr(self, name):
                return name
        has_user = any(urlsplit(server).username for server in self.servers)
        return "url (user and password in it)" if has_user else "none"


def without_credentials(url: str) -> str:
    """`url` without the part before the @."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _check(settings: Settings) -> None:
    if not settings.servers:
        raise SettingsError("The setting 'url' is empty. Write it like nats://host:4222.")
    for server in settings.servers:
        _check_url(server)
    if len({urlsplit(server).scheme in ("ws", "wss") for server in settings.servers}) > 1:
        raise SettingsError(
            "The setting 'url' mixes websocket and TCP servers; NATS clients use one or the other."
        )
    logins = [name for name in ("credentials", "nkey", "token", "user") if getattr(settings, name)]
    if len(logins) > 1:
        raise SettingsError(
            f"The settings {' and '.join(map(repr, logins))} exclude each other; keep one of them."
        )
    if settings.domain and settings.api_prefix:
        raise SettingsError("The settings 'domain' and 'api_prefix' exclude each other; keep one of them.")
    for name in ("domain", "api_prefix"):
        value = getattr(settings, name) or ""
        if value and (not all(value.split(".")) or any(c in value for c in "*> \t\r\n")):
            raise SettingsError(f"The setting {name!r} has {value!r}, which is no subject without wildcards.")
    for name, check in (("streams", check_stream_name), ("services", check_service)):
        try:
            for each in (getattr(settings, name) or "").split(","):
                check(each.strip() or "none")
        except SubjectError as error:
            raise SettingsError(f"The setting {name!r}: {error}") from None
    if settings.password and not settings.user:
        raise SettingsError("The setting 'password' needs 'user' as well.")
    if settings.tls_key and not settings.tls_cert:
        raise SettingsError("The setting 'tls_key' needs 'tls_cert' as well.")
    for name in ("credentials", "tls_ca", "tls_cert", "tls_key"):
        path = getattr(settings, name)
        if path and not Path(path).expanduser().is_file():
            raise SettingsError(f"The setting {name!r} names {path!r}, and there is no such file.")


def _check_url(server: str) -> None:
    shown = without_credentials(server)
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        raise SettingsError(
            "The setting 'url' has an unreadable port. Write it like nats://host:4222."
        ) from None
    if parts.scheme not in SCHEMES or not parts.hostname or port is None:
        raise SettingsError(f"The setting 'url' has {shown!r}. Write it like nats://host:4222.")


def _with_port(server: str) -> str:
    if "://" not in server:
        server = f"nats://{server}"
    parts = urlsplit(server)
    try:
        if parts.port is None and parts.scheme in DEFAULT_PORT:
            return urlunsplit(parts._replace(netloc=f"{parts.netloc}:{DEFAULT_PORT[parts.scheme]}"))
    except ValueError:
        pass  # said by the check, which names the setting
    return server


def _checked_creds(path: str) -> Path:
    """The path, when the file holds both parts: nats-py waits for ever for a JWT that is not there."""
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise SettingsError(f"credentials: {path!r} cannot be read ({error.__class__.__name__}).") from error
    for part in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"):
        if part not in text:
            raise SettingsError(
                f"credentials: {path!r} is no credentials file, it has no line with {part!r}."
            )
    return file


def _seed(nkey: str) -> str:
    if not nkey.startswith("SU"):
        try:
            nkey = Path(nkey).expanduser().read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"nkey: neither a user seed (SU…) nor a readable file ({error.__class__.__name__})."
            ) from None
    if not nkey.startswith("SU"):
        raise SettingsError("nkey: the file holds no user seed; one starts with SU.")
    return nkey


def _no_passphrase() -> str:
    # Without a callback OpenSSL would ask on the terminal and wait there.
    return ""
