"""How to connect to NATS: immutable settings, read from a mapping (a section of a secrets file) and the
environment."""

import contextlib
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, SplitResult, quote, unquote, urlsplit

from nats.aio.client import RawCredentials

from ..environment import FLAG, SECONDS, SIZE, TEXT, Kind, number
from ..errors import SettingsError, SubjectError, one_of
from ..subjects import check_service, check_stream_name
from .credentials import (
    checked_pair,
    claims_of,
    no_such_file,
    read_credentials,
    read_jwt,
    read_seed,
    shown_path,
)

SCHEMES = ("nats", "tls", "ws", "wss")
KNOWN = (*SCHEMES, "http", "https", "ftp")  # anything else before :// may be part of a login
DEFAULT_PORT = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}

ENVIRONMENT = {
    "NATS_URL": "url",
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_NKEY": "nkey",
    "NATS_JWT": "jwt",
    "NATS_CREDS": "credentials",
    "NATS_CA": "tls_ca",
    "NATS_CERT": "tls_cert",
    "NATS_KEY": "tls_key",
    "NATS_TLS_HOSTNAME": "tls_hostname",
    "NATS_TLS_HANDSHAKE_FIRST": "tls_handshake_first",
    "NATS_DOMAIN": "domain",
    "NATS_API_PREFIX": "api_prefix",
    "NATS_INBOX_PREFIX": "inbox_prefix",
    "NATS_ROLE": "role",
    "NATS_STREAMS": "streams",
    "NATS_SERVICES": "services",
    "NATS_NAME": "name",
    "LOOKBACK_MEMORY": "memory",
    "LOOKBACK_FEED_ROWS": "feed_rows",
    "LOOKBACK_FEED_MEMORY": "feed_memory",
    "LOOKBACK_BUCKET_KEYS": "bucket_keys",
    "LOOKBACK_IDLE_AFTER": "idle_after",
}
"""The setting of each environment variable. A variable that is set and not empty overrides the mapping."""

KINDS: dict[str, Kind[Any]] = {
    "tls_handshake_first": FLAG,
    "memory": SIZE,
    "feed_rows": number("rows"),
    "feed_memory": SIZE,
    "bucket_keys": number("keys"),
    "idle_after": SECONDS,
}
"""The kind of each setting that is not text."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, repr=False)
class Settings:
    """Where NATS is and how to log in. Secrets never appear in repr, error messages or logs."""

    url: str = "nats://127.0.0.1:4222"
    """One or more servers, separated by commas: nats://, tls://, ws:// or wss://, host and port. The URL may
    contain user and password, or a token, plain or percent-encoded, up to the last @. A % followed by two
    hexadecimal digits is an encoded character (write %25 for %); write a comma as %2C. Prefer the settings
    below for logins."""
    user: str | None = field(default=None, repr=False)
    """User name; needs `password`."""
    password: str | None = field(default=None, repr=False)
    """Password of `user`."""
    token: str | None = field(default=None, repr=False)
    """A token, for servers configured with one."""
    nkey: str | None = field(default=None, repr=False)
    """An nkey user seed (SU…), or the path of a file with one."""
    jwt: str | None = field(default=None, repr=False)
    """A user JWT, or the path of a file with one. Its seed goes into `nkey`."""
    credentials: str | None = None
    """Path of a .creds file (user JWT and seed), as issued by `nsc` and managed services."""
    tls_ca: str | None = None
    """Path of the CA certificates (PEM) that verify the server's certificate, instead of the system's."""
    tls_cert: str | None = None
    """Path of our client certificate (PEM), for servers that require one."""
    tls_key: str | None = None
    """Path of the private key of `tls_cert` (PEM); not needed if the certificate file contains it."""
    tls_hostname: str | None = None
    """The name in the server's certificate, if it differs from the host of the URL."""
    tls_handshake_first: bool = False
    """Start with the TLS handshake, for servers with `handshake_first`."""
    domain: str | None = None
    """JetStream domain, for streams behind a leaf node."""
    api_prefix: str | None = None
    """Prefix of JetStream API requests in place of `$JS.API`, if an account imports another account's API
    under its own prefix. A domain is also such a prefix, so set only one of the two."""
    inbox_prefix: str = "_INBOX"
    """Prefix of reply subjects. The login must permit subscribing to every subject below it."""
    role: str | None = None
    """The role to use. The login then only requests short-lived user JWTs of this role from the token
    service, a new one before each ends."""
    streams: str | None = None
    """Names of the streams to list, separated by commas, those of buckets with their prefix `KV_`. For logins
    that may read some streams but not list all. Default: the server's list."""
    services: str | None = None
    """Names of the services to discover, separated by commas, for logins that may not discover all. Default:
    all."""
    memory: int | None = None
    """Maximum memory of all windows, back-fills, query results, buckets and charts of the process together,
    such as "2 GiB" or "500 MB". Default: half of the machine's memory, at most 2 GiB."""
    feed_rows: int = 2_500_000
    """Maximum rows of one window or query result."""
    feed_memory: int = 512 << 20
    """Maximum bytes of one window, query result or bucket, such as "512 MiB"."""
    bucket_keys: int = 100_000
    """Maximum keys of one bucket."""
    idle_after: float = 600.0
    """Seconds without a reader after which a feed, bucket or query result is closed."""
    name: str = "lookback"
    """The connection's name in the server's monitoring."""

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        shown = [("url", self.shown)] + [
            (each.name, getattr(self, each.name)) for each in fields(self) if each.repr and each.name != "url"
        ]
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown)})"

    @classmethod
    def load(
        cls, mapping: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
    ) -> "Settings":
        """Read settings from `mapping` (such as `[connections.nats]`), overridden by the environment.

        `env` defaults to os.environ. Raises SettingsError for an unknown key, a value of the wrong type, a
        missing file, or logins that exclude each other. Its text never contains a secret.
        """
        env = os.environ if env is None else env
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in (mapping or {}).items():
            if key not in known:
                raise SettingsError(f"Unknown setting {key!r}. " + one_of(key, known, what="setting"))
            if isinstance(value, list | tuple) and key == "url":
                value = ",".join(str(part) for part in value)
            values[key] = kind_of(key).read(key, value)
        for variable, key in ENVIRONMENT.items():
            if env.get(variable):
                values[key] = kind_of(key).read(key, env[variable])
        return cls(**{key: value for key, value in values.items() if value != ""})

    @property
    def servers(self) -> tuple[str, ...]:
        """The server URLs, with explicit ports and percent-encoded logins. They contain secrets: never show
        them."""
        return tuple(_normal(part.strip()) for part in self.url.split(",") if part.strip())

    @property
    def shown(self) -> str:
        """The server URLs for display, without user, password or token."""
        return ", ".join(without_credentials(server) for server in self.servers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context; None if neither a setting nor a URL requests TLS. Raises SettingsError."""
        secure = any(urlsplit(server).scheme in ("tls", "wss") for server in self.servers)
        own = self.tls_ca or self.tls_cert or self.tls_hostname or self.tls_handshake_first
        if not (secure or own):
            return None
        ca, cert, key = (
            Path(path).expanduser() if path else None for path in (self.tls_ca, self.tls_cert, self.tls_key)
        )
        try:
            context = ssl.create_default_context(cafile=ca)
        except FileNotFoundError:
            raise SettingsError(no_such_file("tls_ca", self.tls_ca or "")) from None
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(
                f"tls_ca: the file {shown_path(self.tls_ca or '')} does not contain valid PEM certificates "
                f"({error.__class__.__name__})."
            ) from None
        if cert:
            try:
                context.load_cert_chain(cert, key, password=_no_passphrase)
            except (ssl.SSLError, OSError) as error:
                raise SettingsError(_bad_pair(self, error)) from None
        return context

    def login(self) -> dict[str, Any]:
        """The login as arguments for `nats.connect`. Reads the files on each call, so that renewed files take
        effect.

        Raises SettingsError if a file is missing or has the wrong content.
        """
        if self.credentials:
            return {"user_credentials": RawCredentials(read_credentials(self.credentials).text)}
        if self.jwt:
            pair = checked_pair(read_jwt(self.jwt), read_seed(self.nkey or ""), "jwt, nkey")
            return {"user_credentials": RawCredentials(pair.text)}
        if self.nkey:
            return {"nkeys_seed_str": read_seed(self.nkey)}
        if self.token:
            return {"token": self.token}
        if self.user:
            return {"user": self.user, "password": self.password or ""}
        return {}

    @property
    def login_setting(self) -> str:
        """The name of the setting with the login, for messages: "user", "credentials", …"""
        for name in ("credentials", "jwt", "nkey", "token", "user"):
            if getattr(self, name):
                return name
        if any(urlsplit(server).username is not None for server in self.servers):
            return "url (user and password in it)"
        return "tls_cert" if self.tls_cert else "none"

    def claims(self) -> dict[str, Any]:
        """The claims of the login's user JWT, unverified; empty if there is no readable one."""
        with contextlib.suppress(SettingsError):
            if self.credentials:
                return claims_of(read_credentials(self.credentials).jwt)
            if self.jwt:
                return claims_of(read_jwt(self.jwt))
        return {}


def login_in(parts: SplitResult | ParseResult) -> dict[str, str]:
    """The login in one of `Settings.servers`, as arguments for `nats.connect`; empty if it has none."""
    if parts.username is None:
        return {}
    user = unquote(parts.username)
    return {"token": user} if parts.password is None else {"user": user, "password": unquote(parts.password)}


def without_credentials(url: str) -> str:
    """`url` without login and query. Anything that is not a URL becomes "an invalid URL"."""
    scheme, _, address = _taken_apart(url)
    if scheme not in KNOWN:
        return "an invalid URL"
    try:
        parts = urlsplit(f"{scheme}://{address}")
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "an invalid URL"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{scheme}://{host}{port}{parts.path if scheme in ('ws', 'wss') else ''}"


def _taken_apart(url: str) -> tuple[str, str | None, str]:
    """Split a URL into scheme ("nats" if there is none), login as written, and the rest. A login may contain
    any character, so it ends at the last @."""
    found = _SCHEME.match(url)
    scheme, rest = (found[1].lower(), url[found.end() :]) if found else ("nats", url)
    login, at, address = rest.rpartition("@")
    return scheme, login if at else None, address


def _normal(url: str) -> str:
    """Normalise `url`, so that every URL parser reads it the same way."""
    scheme, login, address = _taken_apart(url)
    try:
        parts = urlsplit(f"{scheme}://{address}")
        if parts.port is None and parts.hostname and scheme in DEFAULT_PORT:
            address = parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{DEFAULT_PORT[scheme]}").geturl()
            address = address.partition("://")[2]
    except ValueError:
        pass  # _check_url reports it and names the setting
    if login is None:
        return f"{scheme}://{address}"
    user, colon, password = login.partition(":")
    return f"{scheme}://{_encoded(user)}{colon}{_encoded(password)}@{address}"


def _encoded(text: str) -> str:
    return quote(unquote(text), safe="")


def _check(settings: Settings) -> None:
    if not settings.servers:
        raise SettingsError("The setting 'url' is empty. Set it to a URL such as nats://host:4222.")
    _check_urls(settings.url)
    if len({urlsplit(server).scheme in ("ws", "wss") for server in settings.servers}) > 1:
        raise SettingsError("The setting 'url' mixes websocket and TCP servers. Use only one kind.")
    ways = ("credentials", "jwt" if settings.jwt else "nkey", "token", "user")
    logins = [name for name in ways if getattr(settings, name)]
    if len(logins) > 1:
        raise SettingsError(
            f"The settings {' and '.join(map(repr, logins))} cannot be combined. Keep one of them."
        )
    if settings.jwt and not settings.nkey:
        raise SettingsError("The setting 'jwt' also needs 'nkey', the seed of the JWT's user.")
    if settings.domain and settings.api_prefix:
        raise SettingsError("The settings 'domain' and 'api_prefix' cannot be combined. Keep one of them.")
    for name in ("domain", "api_prefix", "inbox_prefix"):
        value = getattr(settings, name) or ""
        if value and (not all(value.split(".")) or any(c in value for c in "*> \t\r\n")):
            raise SettingsError(f"The setting {name!r} is {value!r}. Set it to a subject without wildcards.")
    for name, check in (("streams", check_stream_name), ("services", check_service)):
        try:
            for each in (getattr(settings, name) or "").split(","):
                check(each.strip() or "none")
        except SubjectError as error:
            raise SettingsError(f"The setting {name!r}: {error}") from None
    if settings.password and not settings.user:
        raise SettingsError("The setting 'password' also needs 'user'.")
    if settings.tls_key and not settings.tls_cert:
        raise SettingsError("The setting 'tls_key' also needs 'tls_cert'.")
    for name in ("credentials", "tls_ca", "tls_cert", "tls_key"):
        path = getattr(settings, name)
        if path and not Path(path).expanduser().is_file():
            raise SettingsError(no_such_file(name, path))


def _check_urls(url: str) -> None:
    """Raises SettingsError if a URL is invalid. Its text contains nothing that may be part of a login."""
    pieces = [piece.strip() for piece in url.split(",") if piece.strip()]
    if any("@" in piece and not _SCHEME.match(piece) for piece in pieces[1:]):
        raise SettingsError(
            "The setting 'url' has a comma before an @. Write a comma in a password as %2C. In a list of "
            "servers, give each one with a login its scheme, as in nats://user:password@host:4222."
        )
    for piece in pieces:
        _check_url(piece)


def _check_url(server: str) -> None:
    scheme, login, address = _taken_apart(server)
    try:
        unquote(login or "", errors="strict")
    except UnicodeDecodeError:
        raise SettingsError(
            "The setting 'url' has a login with percent-encoding that is not UTF-8. Write % as %25."
        ) from None
    try:
        parts = urlsplit(f"{scheme}://{address}")
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise SettingsError(
            "The setting 'url' has an invalid host or port. Use the form nats://host:4222 or "
            "nats://user:password@host:4222."
        ) from None
    if scheme in ("http", "https"):
        ws, tls = ("ws", "nats") if scheme == "http" else ("wss", "tls")
        raise SettingsError(
            f"The setting 'url' contains {without_credentials(server)!r}, an HTTP address. Use "
            f"{tls}://host:4222, or {ws}://host:port for a websocket listener of NATS."
        )
    if scheme not in SCHEMES or not parts.hostname:
        raise SettingsError(
            f"The setting 'url' contains {without_credentials(server)!r}. Use the form nats://host:4222."
        )
    path = parts.path.strip("/") if scheme in ("nats", "tls") else ""
    if path or parts.fragment or (parts.query and scheme in ("nats", "tls")) or re.search(r"\s", address):
        raise SettingsError(
            "The setting 'url' has more than a host and port after the login. Use the form "
            "nats://host:4222 or nats://user:password@host:4222."
        )


def _bad_pair(settings: Settings, error: OSError) -> str:
    """The message about an unusable pair of `tls_cert` and `tls_key`."""
    reason = getattr(error, "reason", None) or ""
    cert, key = shown_path(settings.tls_cert or ""), shown_path(settings.tls_key or "")
    if reason == "KEY_VALUES_MISMATCH":
        return f"tls_key: the key in {key} does not match the certificate in {cert} ('tls_cert')."
    if not settings.tls_key:
        return f"tls_cert: the file {cert} does not contain a certificate and its key. Set 'tls_key'."
    return (
        f"tls_cert, tls_key: {cert} and {key} are not a PEM certificate and its unencrypted key "
        f"({reason or error.__class__.__name__})."
    )


def kind_of(name: str) -> Kind[Any]:
    """The kind of the setting `name`."""
    return KINDS.get(name, TEXT)


def _no_passphrase() -> str:
    # Without a callback OpenSSL would prompt on the terminal and block.
    return ""
