"""Explains failed connections: names the setting and what to do, and contains no secret."""

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
    10023: "the server has no memory or storage left for it ('max_mem', 'max_file')",
    10026: "the account, or the stream, has as many consumers as it may ('max_consumers')",
    10027: "the account has as many streams as it may ('max_streams')",
    10028: "there is not enough memory left for it ('max_mem')",
    10047: "there is not enough storage left for it ('max_file')",
    10120: "the account has no limits that allow for so many replicas",
}
"""The limit that a JetStream error code reports, with the server's setting."""


class TlsNotOffered(nats.errors.Error):
    """TLS was requested, but the server does not offer it."""


class Silent(nats.errors.Error):
    """The server accepted the TCP connection, but never sent INFO, as a NATS server does first."""


def explain(settings: Settings, server: str, error: BaseException) -> LookbackError:
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
            f"TLS is asked for, and {where} does not offer it. No login was sent. Use nats:// in 'url' "
            "if the connection may be plain."
        )
    if type(error).__module__.startswith("nkeys"):
        return SettingsError(f"{settings.login_setting}: the seed in it is not valid.")
    text = str(error).lower()
    if isinstance(error, nats.errors.Error):
        if "maximum" in text:
            return ConnectionFailed(_full(where, text))
        if "authorization" in text or "authentication" in text:
            return LoginRefused(_login(settings, where, text))
    return ServerUnreachable(_unreachable(settings, server, where, error))


def limit_reached(code: int) -> str | None:
    """A sentence on the limit that a JetStream error code reports; None if the code is not about a limit."""
    return f"A limit is reached: {LIMITS[code]} (error code {code})" if code in LIMITS else None


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
        return "it did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(error, ConnectionResetError):
        return "the connection was lost"
    if isinstance(error, OSError) and isinstance(error.strerror, str) and error.strerror:
        return error.strerror.lower()
    return str(error).removeprefix("nats: ").strip("' ") or type(error).__name__


async def last_words(settings: Settings, server: str) -> Exception | None:
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
    code, told = error.verify_code, error.verify_message.rstrip(".")
    if code in EXPIRED:
        return (
            f"The certificate of {where} has expired, by this machine's clock ({_utc(time.time())}). Have it "
            "renewed there; if it is still good, this clock is wrong."
        )
    if code in NOT_YET_VALID:
        return (
            f"The certificate of {where} is not valid yet, by this machine's clock ({_utc(time.time())}). "
            "One of the clocks is wrong: this one, or that of the machine where it was made."
        )
    if code in OTHER_NAME:
        return (
            f"The certificate of {where} is for another name: {told}. Use the name in it in 'url', or write "
            "it into 'tls_hostname'."
        )
    if code in UNKNOWN_CA:
        ours = f"not among those in 'tls_ca' ({settings.tls_ca!r})" if settings.tls_ca else "not known here"
        return (
            f"The certificate of {where} is not accepted: the CA that signed it is {ours} ({told}). Check "
            "'tls_ca': it names the file with that CA's certificate."
        )
    return f"The certificate of {where} is not accepted: {told}. Check 'tls_ca' and 'tls_hostname'."


def _handshake(settings: Settings, server: str, where: str, error: ssl.SSLError) -> str:
    reason = error.reason or ""
    capital = where[0].upper() + where[1:]
    ours = f"our client certificate ('tls_cert', {settings.tls_cert!r})"
    if "CERTIFICATE_REQUIRED" in reason or (not settings.tls_cert and "ALERT_BAD_CERTIFICATE" in reason):
        return (
            f"{capital} asks for a client certificate, and none is set. Name one in 'tls_cert' and its key "
            "in 'tls_key'."
        )
    if "ALERT_UNKNOWN_CA" in reason:
        return (
            f"{capital} does not know the CA that signed {ours}. Use a certificate of a CA that it trusts, "
            "or ask who runs it to add this one."
        )
    if "ALERT_CERTIFICATE_EXPIRED" in reason:
        return (
            f"{capital} says that {ours} has expired, or is not valid yet. Renew it; Lookback then connects "
            "by itself. If its dates are good, one of the clocks is wrong."
        )
    if "ALERT" in reason and "CERTIFICATE" in reason:
        return f"{capital} does not accept {ours}: {reason}. Ask who runs it which ones it takes."
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        if settings.tls_handshake_first and not server.startswith("wss"):
            return (
                f"{capital} does not begin with TLS. Leave out 'tls_handshake_first', and check the port in "
                "'url'."
            )
        return f"{capital} speaks no TLS at this port. Check scheme and port in 'url'."
    if "PROTOCOL_VERSION" in reason or "HANDSHAKE_FAILURE" in reason:
        return f"{capital} and Lookback have no TLS version and cipher in common ({reason})."
    return f"The TLS handshake with {where} failed: {reason or 'no reason given'}."


def _login(settings: Settings, where: str, text: str) -> str:
    setting = settings.login_setting
    told = "no login is set" if setting == "none" else f"setting: {setting}"
    if "timeout" in text:
        return f"The login at {where} took too long ({told}). Lookback tries again."
    claims = settings.claims()
    now, ends, begins = time.time(), claims.get("exp"), claims.get("nbf")
    renew = "Renew it; Lookback then logs in by itself."
    if "account authentication expired" in text:
        return (
            f"The account of the login at {where} has expired ({told}). Ask who runs the server to renew it."
        )
    if "revoked" in text:
        return f"The login at {where} was revoked ({told}). Ask who runs the server for a new one."
    if isinstance(ends, int | float) and ends <= now:
        return (
            f"The login at {where} has expired ({told}): its JWT ended {_utc(ends)}, and this machine's "
            f"clock says {_utc(now)}. {renew}"
        )
    if "expired" in text:
        return (
            f"The login at {where} has expired ({told}). {renew} If it is still good, the clock of the "
            "server or of this machine is wrong."
        )
    if isinstance(begins, int | float) and begins > now:
        return (
            f"The login at {where} is not valid yet ({told}): its JWT begins {_utc(begins)}, and this "
            f"machine's clock says {_utc(now)}. Wait, or set right the clock that is wrong."
        )
    if setting == "none":
        return (
            f"The login is refused by {where} ({told}). It asks for one: set 'credentials', 'nkey', 'token', "
            "'user' or 'tls_cert', whichever you were given."
        )
    if setting == "tls_cert":
        return (
            f"The login is refused by {where} ({told}): no user there has a name of this certificate. Use "
            "another one, or set the login that goes with it."
        )
    why = ""
    if claims:
        until = ""
        if isinstance(ends, int | float):
            until = f" and is good until {_utc(ends)}, by this machine's clock"
        why = (
            f" Its JWT is of user {claims.get('name') or claims.get('sub')!r}{until}; it may be revoked, be "
            "of an account that this server does not know, or have ended by the server's clock."
        )
    return f"The login is refused by {where} ({told}).{why} Check it, or ask who runs the server."


def _full(where: str, text: str) -> str:
    capital = where[0].upper() + where[1:]
    if "account" in text:
        return (
            f"{capital} takes no more connections of this account: it is at its limit. Close others, or ask "
            "who runs the server for more. Lookback keeps trying."
        )
    if "connections" in text:
        return f"{capital} takes no more connections: it is at its limit. Lookback keeps trying."
    return f"{capital} ended the connection: {text.removeprefix('nats: ')}. Ask who runs it."


def _unreachable(settings: Settings, server: str, where: str, error: BaseException) -> str:
    capital = where[0].upper() + where[1:]
    web = server.startswith("ws")
    told = " ".join(str(error).split())
    if isinstance(error, Silent) or "expecting info" in told.lower():
        first = (
            "it may not begin with TLS: leave out 'tls_handshake_first'"
            if settings.tls_handshake_first
            else "it may begin with TLS: set 'tls_handshake_first'"
        )
        return (
            f"{capital} takes the connection and does not greet as NATS does. It may be a websocket "
            f"listener: ws:// or wss:// in 'url'; {first}; or the port belongs to something "
            "else; or the server is frozen or overloaded."
        )
    if web and "INFO {" in told:
        return f"{capital} speaks NATS, but no websocket, at this port. Use nats:// or tls:// in 'url'."
    status = getattr(error, "status", None)
    if web and isinstance(status, int) and status:
        return (
            f"{capital} does not open a websocket: HTTP status {status}. Check host, port and path in 'url', "
            "and ws:// or wss://."
        )
    hint = ""
    if web and isinstance(error, TimeoutError):
        hint = " Check the scheme too: wss:// is for a websocket with TLS, ws:// for one without."
    if isinstance(error, ConnectionResetError | BrokenPipeError) and settings.ssl_context() is not None:
        hint = " It may ask for another client certificate: 'tls_cert' and 'tls_key'."
    return f"No answer from {where}: {plain_reason(error)}. Check 'url' and that the server runs.{hint}"


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
