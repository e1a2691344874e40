"""All errors that Lookback raises. Each message names the value and what to do.

LookbackError
├── SettingsError           a setting is unknown or invalid, or contradicts another
├── DurationError           a look-back is not a duration such as "5m" or "PT5M"
├── SubjectError            NATS does not allow a subject or filter
├── ConnectionFailed        no connection to NATS; the client retries
│   ├── ServerUnreachable   no NATS server answers at the address
│   ├── LoginRefused        the server rejects the credentials
│   │   └── TokenRefused    the token service or the server refuses the role
│   ├── TokenUnavailable    the token service does not answer, or cannot issue a token now
│   └── TlsFailed           the TLS handshake failed
├── StreamNotFound          the server has no such stream
├── KeyNotFound             a key-value bucket has no such key; also a KeyError
├── TooManyKeys             a bucket has more keys than its mapping may hold
├── TooManySubjects         a stream has more subjects than may be counted
├── RequestFailed           a request to the server or a service got no usable reply
│   ├── RequestRefused      the server refuses it, or the login does not permit it
│   │   ├── NotPermitted    the login does not permit a subject
│   │   └── MessageNotFound the stream holds no such message
│   ├── NoResponders        the subject has no subscriber
│   ├── RequestTimeout      no reply in time, although there is a subscriber
│   ├── ServiceError        the service replied with an error
│   ├── AnswerBroken        chunks of a result are unreadable or missing
│   └── AnswerTooLarge      a result has more rows or bytes than are kept
├── PayloadError            a payload or header cannot be sent
├── ColumnError             a column does not exist, or is of another kind
├── SqlError                SQL is wrong, uses what it may not, or reached a limit
│   ├── SqlColumnError      SQL names a column that no row has; also a ColumnError
│   └── SqlEnded            the process of a query was ended by somebody else
├── ThresholdError          a threshold is not a condition such as 90 or "< 10"
├── NotSignedIn             the viewer is not signed in, or has no role
└── ClosedError             the client, feed, watch or query has been closed
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LookbackError(Exception):
    """Base of all errors that Lookback raises. Its text is written for the viewer."""


class SettingsError(LookbackError):
    """A setting is unknown or invalid, or contradicts another."""


class DurationError(LookbackError):
    """Something is not a duration of fixed length, or is zero or too long."""


class SubjectError(LookbackError):
    """NATS does not allow a subject, a filter, or the name of a stream, bucket, key or service."""


class ConnectionFailed(LookbackError):  # noqa: N818 - a temporary state, not a mistake of the caller
    """There is no connection to NATS now; the client retries."""


class ServerUnreachable(ConnectionFailed):
    """No NATS server answers at the configured address."""


class LoginRefused(ConnectionFailed):
    """The server answered and rejected the credentials."""


class TokenRefused(LoginRefused):
    """The token service refuses the role, or the server refuses its token."""


class TokenUnavailable(ConnectionFailed):
    """The token service is not running, does not answer, or cannot issue a token now."""


class TlsFailed(ConnectionFailed):
    """The server answered, but the TLS handshake failed."""


class StreamNotFound(LookbackError):  # noqa: N818 - the name that NATS uses (error code 10059)
    """The server has no stream of that name (JetStream error code 10059)."""


class KeyNotFound(LookbackError, KeyError):  # noqa: N818 - the name that NATS uses
    """A key-value bucket has no such key, or the key was deleted."""

    __str__ = Exception.__str__  # that of KeyError would put the text in quotes


class TooManyKeys(LookbackError):  # noqa: N818 - an outcome
    """A bucket has more keys than its mapping may hold, so the mapping cannot answer."""


class TooManySubjects(LookbackError):  # noqa: N818 - an outcome
    """A stream has more subjects than may be counted, because counting blocks its publishers."""

    def __init__(self, sentence: str, total: int) -> None:
        super().__init__(sentence)
        self.total = total
        """Number of subjects of the stream."""


class RequestFailed(LookbackError):  # noqa: N818 - an outcome
    """A request got no reply, or an error that may be temporary."""


class RequestRefused(RequestFailed):
    """The server refuses a request, or the login does not permit it. A retry alone does not help."""


class NotPermitted(RequestRefused):
    """The login does not permit publishing or subscribing to a subject."""


class MessageNotFound(RequestRefused):
    """The stream holds no such message (JetStream error code 10037)."""


class NoResponders(RequestFailed):
    """The subject of a request has no subscriber; NATS reports that at once."""


class RequestTimeout(RequestFailed):
    """No reply arrived in time, although the subject of the request has a subscriber."""


class ServiceError(RequestFailed):
    """A service replied with an error, in the format of the service protocol (ADR-32)."""

    def __init__(self, sentence: str, *, code: str = "", description: str = "", data: bytes = b"") -> None:
        super().__init__(sentence)
        self.code = code
        """Header `Nats-Service-Error-Code`, usually a number like an HTTP status."""
        self.description = description
        """Header `Nats-Service-Error`."""
        self.data = data
        """The payload of that reply."""


class AnswerBroken(RequestFailed):
    """A chunk of a result cannot be read, or fewer rows arrived than the service announced."""


class AnswerTooLarge(RequestFailed):
    """A result has more rows or bytes than are kept. The first rows are kept."""


class PayloadError(LookbackError):
    """A payload or header cannot be sent: it is too large for the server, or cannot be encoded."""


class ColumnError(LookbackError):
    """A column does not exist, or is of another kind than requested."""


class SqlError(LookbackError):
    """SQL is wrong, uses what it may not, or reached one of its limits."""

    def __init__(
        self, what: str, *, line: int | None = None, column: int | None = None, within: str = ""
    ) -> None:
        """`within`: a name for the SQL, with which the error's text begins."""
        place = f"Line {line}, column {column}: " if line is not None else ""
        super().__init__(f"{within}: {place}{what}" if within else f"{place}{what}")
        self.what = what
        """The sentence without the place."""
        self.line = line
        """The line of the mistake, from 1; None if unknown."""
        self.column = column
        """The character of that line, from 1; None if unknown."""


class SqlColumnError(SqlError, ColumnError):
    """SQL names a column that no row has."""


class SqlEnded(SqlError):  # noqa: N818 - an outcome
    """The process of a query was ended from outside. The same query may succeed next time."""


class ThresholdError(LookbackError):
    """A threshold is neither a number nor a condition."""


class NotSignedIn(LookbackError):  # noqa: N818 - a state
    """A page needs a signed-in viewer, and nobody is signed in, or the viewer has no role."""


class ClosedError(LookbackError):
    """The client, feed, watch or query has been closed."""


def one_of(wrong: str, known: Iterable[str], *, what: str) -> str:
    """Sentences that list the `known` names, at most 12, and suggest the one nearest to `wrong`."""
    names = sorted(known)
    if not names:
        return f"There are no {what}s yet."
    near = get_close_matches(wrong, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(repr(name) for name in names[:12])
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{hint}The {what}s are {listed}{more}."
