"""Turns failed connections into errors that name the setting and what to do, and contain no secret."""

import asyncio
import contextlib
import ssl
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import nats.errors

from ..errors import (
    ConnectionFailed,
    LoginRefused,
    LookbackError,
    ServerUnreachable,
    SettingsError,
    TlsFailed,
)
from .settings import Settings, without_credentials

PROBE_TIMEOUT = 1.0  # seconds

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
NOT_YET_VALID, EXPIRED, UNKNOWN_CA, OTHER_NAME = {9}, {10}, {18, 19, 20, 21}, {62, 64}


# https://github.com/nats-io/nats-server/blob/main/server/errors.json
LIMITS = {
    10002: "the account has used up its memory or storage ('max_mem', 'max_file')",
    10023: "the server has no memory or storage left ('max_mem', 'max_file')",
    10026: "the account or the stream has its maximum number of consumers ('max_consumers')",
    10027: "the account has its maximum number of streams ('max_streams')",
    10028: "the server does not have enough memory left ('max_mem')",
    10047: "the server does not have enough storage left ('max_file')",
    10120: "the account has no JetStream limits for this number of replicas",
}
"""The limit that a JetStream error code reports, with the server's setting."""


class TlsNotOffered(nats.errors.Error):
    """TLS was requested, but the server does not offer it."""


class Silent(nats.errors.Error):
    """The server accepted the TCP connection, but never sent INFO, as a NATS server does first."""


def connect_error(settings: Settings, server: str, error: BaseException) -> LookbackError:
    """Turn an error while connecting to `server` into a LookbackError with an explanation."""
    where = where_is(server)
    error = root_cause(error)
    if isinstance(error, LookbackError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailed(_their_certificate(settings, where, error))
    if isinstance(error, ssl.SSLError):
        return TlsFailed(_handshake(settings, server, where, error))
    if isinstance(error, TlsNotOffered):
        return TlsFailed(
            f"TLS was requested, but {where} does not offer it. No login was sent. Use nats:// in 'url' if "
            "the connection does not need encryption."
        )
    if type(error).__module__.startswith("nkeys"):
        return SettingsError(f"{settings.login_setting}: the seed is not valid. Get a new one.")
    text = str(error).lower()
    if isinstance(error, nats.errors.Error):
        if "maximum" in text:
            return ConnectionFailed(_full(where, text))
        if "authorization" in text or "authentication" in text:
            return LoginRefused(_login(settings, where, text))
    return ServerUnreachable(_unreachable(settings, server, where, error))


def limit_reached(code: int) -> str | None:
    """A sentence on the limit that a JetStream error code reports; None if the code is not about a limit."""
    return f"A limit was reached: {LIMITS[code]} (error code {code})" if code in LIMITS else None


def root_cause(error: BaseException) -> BaseException:
    """The error of the operating system, which aiohttp wraps in its own."""
    while isinstance(error.__cause__, OSError) and not isinstance(error, LookbackError):
        error = error.__cause__
    return error


def where_is(server: str) -> str:
    """A server as a phrase within a sentence, without credentials."""
    return f"the NATS server at {without_credentials(server)}"


def plain_reason(error: BaseException) -> str:
    """Why a connection or request failed, as a phrase within a sentence."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "the connection was lost"
    if isinstance(error, OSError) and isinstance(error.strerror, str) and error.strerror:
        return error.strerror.lower()
    return str(error).removeprefix("nats: ").strip("' ") or type(error).__name__


async def reset_reason(settings: Settings, server: str) -> Exception | None:
    """Connect once more to find out why `server` has reset a connection. None if it gives no reason.

    The server sends an error, such as a rejected certificate or too many connections, and closes. If we have
    sent data meanwhile, the reset may arrive before the error. So this connection sends nothing.
    """
    parts, context = urlsplit(server), settings.ssl_context()
    if parts.scheme == "ws":
        return None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            tls_first = settings.tls_handshake_first or parts.scheme == "wss"
            info = b"" if tls_first else await reader.readline()
            if context is not None and (tls_first or b'"tls_required":true' in info):
                await writer.start_tls(context, server_hostname=settings.tls_hostname or parts.hostname)
            word, _, text = (await reader.readline()).partition(b" ")
            if word == b"-ERR":
                return nats.errors.Error(text.decode("utf-8", "replace").strip())
    except ssl.SSLError as error:
        return error
    except (OSError, TimeoutError, ValueError):
        pass
    finally:
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.transport.abort()
    return None


def _their_certificate(settings: Settings, where: str, error: ssl.SSLCertVerificationError) -> str:
    code, reason = error.verify_code, error.verify_message.rstrip(".")
    if code in EXPIRED:
        return (
            f"The certificate of {where} has expired by this machine's clock ({_utc(time.time())}). Renew it "
            "on the server. If it has not expired, this machine's clock is wrong."
        )
    if code in NOT_YET_VALID:
        return (
            f"The certificate of {where} is not valid yet by this machine's clock ({_utc(time.time())}). "
            "One clock is wrong: this machine's, or that of the CA."
        )
    if code in OTHER_NAME:
        return (
            f"The certificate of {where} is for another host name: {reason}. Use the certificate's name in "
            "'url', or set 'tls_hostname' to it."
        )
    if code in UNKNOWN_CA:
        known = f"not in 'tls_ca' ({settings.tls_ca!r})" if settings.tls_ca else "not known to this machine"
        return (
            f"The certificate of {where} is not trusted: the CA that signed it is {known} ({reason}). Set "
            "'tls_ca' to the file with that CA's certificate."
        )
    return f"The certificate of {where} is not trusted: {reason}. Check 'tls_ca' and 'tls_hostname'."


def _handshake(settings: Settings, server: str, where: str, error: ssl.SSLError) -> str:
    reason = error.reason or ""
    capital = where[0].upper() + where[1:]
    ours = f"our client certificate ('tls_cert', {settings.tls_cert!r})"
    if "CERTIFICATE_REQUIRED" in reason or (not settings.tls_cert and "ALERT_BAD_CERTIFICATE" in reason):
        return f"{capital} requires a client certificate, but none is set. Set 'tls_cert' and 'tls_key'."
    if "ALERT_UNKNOWN_CA" in reason:
        return (
            f"{capital} does not trust the CA that signed {ours}. Use a certificate of a CA that it trusts, "
            "or ask its administrator to add this CA."
        )
    if "ALERT_CERTIFICATE_EXPIRED" in reason:
        return (
            f"{capital} reports that {ours} has expired or is not valid yet. Renew it; Lookback then "
            "connects by itself. If its dates are right, one of the clocks is wrong."
        )
    if "ALERT" in reason and "CERTIFICATE" in reason:
        return f"{capital} rejects {ours}: {reason}. Ask its administrator which certificates it accepts."
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        if settings.tls_handshake_first and not server.startswith("wss"):
            return (
                f"{capital} does not start with a TLS handshake. Remove 'tls_handshake_first', and check the "
                "port in 'url'."
            )
        return f"{capital} does not speak TLS on this port. Check the scheme and port in 'url'."
    if "PROTOCOL_VERSION" in reason or "HANDSHAKE_FAILURE" in reason:
        return f"{capital} and Lookback have no TLS version or cipher suite in common ({reason})."
    return f"The TLS handshake with {where} failed: {reason or 'no reason given'}."


def _login(settings: Settings, where: str, text: str) -> str:
    setting = settings.login_setting
    source = "no login is set" if setting == "none" else f"setting: {setting}"
    if "timeout" in text:
        return f"The login at {where} timed out ({source}). Lookback will try again."
    claims = settings.claims()
    now, ends, begins = time.time(), claims.get("exp"), claims.get("nbf")
    renew = "Renew it; Lookback then logs in by itself."
    if "account authentication expired" in text:
        return (
            f"The account of the login has expired at {where} ({source}). Ask the server's administrator to "
            "renew it."
        )
    if "revoked" in text:
        return f"The login was revoked at {where} ({source}). Ask the server's administrator for a new one."
    if isinstance(ends, int | float) and ends <= now:
        return (
            f"The login at {where} has expired ({source}): its user JWT expired at {_utc(ends)}, and this "
            f"machine's clock says {_utc(now)}. {renew}"
        )
    if "expired" in text:
        return (
            f"The login at {where} has expired ({source}). {renew} If it has not expired, the clock of the "
            "server or of this machine is wrong."
        )
    if isinstance(begins, int | float) and begins > now:
        return (
            f"The login at {where} is not valid yet ({source}): its user JWT is valid from {_utc(begins)}, "
            f"and this machine's clock says {_utc(now)}. Wait, or correct the clock that is wrong."
        )
    if setting == "none":
        return (
            f"The login was rejected by {where} ({source}). The server requires one: set 'credentials', "
            "'nkey', 'token', 'user' or 'tls_cert', whichever you were given."
        )
    if setting == "tls_cert":
        return (
            f"The login was rejected by {where} ({source}): the server has no user for this certificate. Use "
            "another certificate, or also set the login that belongs to it."
        )
    why = ""
    if claims:
        until = ""
        if isinstance(ends, int | float):
            until = f" and is valid until {_utc(ends)} by this machine's clock"
        why = (
            f" Its user JWT is for {claims.get('name') or claims.get('sub')!r}{until}; it may be revoked, be "
            "issued by an account that this server does not know, or be expired by the server's clock."
        )
    return f"The login was rejected by {where} ({source}).{why} Check it, or ask the server's administrator."


def _full(where: str, text: str) -> str:
    capital = where[0].upper() + where[1:]
    if "account" in text:
        return (
            f"{capital} accepts no more connections from this account: it has reached its limit. Close "
            "others, or ask the server's administrator to raise it. Lookback keeps trying."
        )
    if "connections" in text:
        return f"{capital} accepts no more connections: it has reached its limit. Lookback keeps trying."
    return f"{capital} closed the connection: {text.removeprefix('nats: ')}. Ask its administrator."


def _unreachable(settings: Settings, server: str, where: str, error: BaseException) -> str:
    capital = where[0].upper() + where[1:]
    web = server.startswith("ws")
    text = " ".join(str(error).split())
    if isinstance(error, Silent) or "expecting info" in text.lower():
        first = (
            "it may not start with a TLS handshake: remove 'tls_handshake_first'"
            if settings.tls_handshake_first
            else "it may start with a TLS handshake: set 'tls_handshake_first'"
        )
        return (
            f"{capital} accepts the connection, but does not send INFO as a NATS server does. It may be a "
            f"websocket listener: use ws:// or wss:// in 'url'; {first}; the port may belong to another "
            "program; or the server is frozen or overloaded."
        )
    if web and "INFO {" in text:
        return f"{capital} speaks NATS without websocket on this port. Use nats:// or tls:// in 'url'."
    status = getattr(error, "status", None)
    if web and isinstance(status, int) and status:
        return (
            f"{capital} does not open a websocket: HTTP status {status}. Check host, port, path and scheme "
            "(ws:// or wss://) in 'url'."
        )
    hint = ""
    if web and isinstance(error, TimeoutError):
        hint = " Check the scheme too: wss:// is for a websocket with TLS, ws:// for one without."
    if isinstance(error, ConnectionResetError | BrokenPipeError) and settings.ssl_context() is not None:
        hint = " It may require another client certificate: check 'tls_cert' and 'tls_key'."
    return f"Cannot reach {where}: {plain_reason(error)}. Check 'url', and that the server is running.{hint}"


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
