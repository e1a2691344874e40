"""Everything that can go wrong, as one tree. Each sentence names the value and the way out.

LookbackError
├── SettingsError           a setting is unknown, unreadable or contradicts another
├── DurationError           a look-back that is not an ISO 8601 duration such as "PT5M"
├── SubjectError            a subject, or a filter, that NATS does not allow
├── ConnectionFailed        no connection to NATS; the client keeps trying
│   ├── ServerUnreachable   nothing answers at the address
│   ├── LoginRefused        the server does not accept the credentials
│   │   └── TokenRefused    the token service, or the server, does not grant the role
│   ├── TokenUnavailable    the token service is not there, or has no token at the moment
│   └── TlsFailed           the certificates do not fit
├── StreamNotFound          the server has no such stream
├── KeyNotFound             a key-value bucket has no such key; also a KeyError
├── TooManyKeys             a bucket has more keys than its mapping may hold
├── TooManySubjects         a stream has more subjects than may be counted
├── RequestFailed           a request to the server or a service ended without an answer
│   ├── RequestRefused      the server, or what the login permits, says no
│   │   ├── NotPermitted    the login does not permit a subject
│   │   └── MessageNotFound the stream holds no such message
│   ├── NoResponders        nobody listens to the subject
│   ├── RequestTimeout      somebody listens, and did not answer in time
│   ├── ServiceError        the service answered with an error of its own
│   ├── AnswerBroken        chunks of an answer that cannot be read, or are missing
│   └── AnswerTooLarge      more rows than are kept of one answer
├── PayloadError            a payload, or a header, that cannot be sent
├── ColumnError             a column that is not there, or is of another kind
├── ThresholdError          a threshold that is no finite number
├── NotSignedIn             the viewer is not signed in, or has no role
└── ClosedError             the client or the feed has been closed
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LookbackError(Exception):
    """Base of all errors that Lookback raises itself; its text is meant for the person at the screen."""


class SettingsError(LookbackError):
    """A setting is unknown, unreadable, or contradicts another."""


class DurationError(LookbackError):
    """A text is not an ISO 8601 duration with a fixed length."""


class SubjectError(LookbackError):
    """A subject or filter is not one that NATS allows."""


class ConnectionFailed(LookbackError):  # noqa: N818 - a state that passes, not a mistake of the caller
    """There is no connection to NATS at the moment; the client keeps trying."""


class ServerUnreachable(ConnectionFailed):
    """Nothing answers at any of the configured addresses."""


class LoginRefused(ConnectionFailed):
    """The server answered, and does not accept the credentials."""


class TokenRefused(LoginRefused):
    """The token service does not grant the role, or the server does not take its token."""


class TokenUnavailable(ConnectionFailed):
    """The token service is not there, does not answer, or cannot make a token at the moment."""


class TlsFailed(ConnectionFailed):
    """The server answered, and the TLS handshake failed."""


class StreamNotFound(LookbackError):  # noqa: N818 - the field's own word (error code 10059)
    """The server has no stream of that name (JetStream error code 10059)."""


class KeyNotFound(LookbackError, KeyError):  # noqa: N818 - the field's own word
    """A key-value bucket has no such key, or has it no more."""

    __str__ = Exception.__str__  # KeyError's would put the sentence in quotes


class TooManyKeys(LookbackError):  # noqa: N818 - an outcome
    """A bucket has more keys than its mapping may hold, so what was asked for is not known."""


class TooManySubjects(LookbackError):  # noqa: N818 - an outcome
    """A stream has more subjects than may be counted: its publishers would wait meanwhile."""

    def __init__(self, sentence: str, total: int) -> None:
        super().__init__(sentence)
        self.total = total
        """Subjects of the stream."""


class RequestFailed(LookbackError):  # noqa: N818 - an outcome
    """A request to the server ended without an answer, or with an error that passes by itself."""


class RequestRefused(RequestFailed):
    """The server answered no, or the login does not permit to ask: trying again alone does not help."""


class NotPermitted(RequestRefused):
    """The login does not permit to publish, or to subscribe, to a subject."""


class MessageNotFound(RequestRefused):
    """The stream holds no such message (JetStream error code 10037)."""


class NoResponders(RequestFailed):
    """Nobody listens to the subject of a request: NATS says so at once."""


class RequestTimeout(RequestFailed):
    """Somebody listens to the subject of a request, and no answer came in time."""


class ServiceError(RequestFailed):
    """A service answered with an error of its own, as the service protocol has it (ADR-32)."""

    def __init__(self, sentence: str, *, code: str = "", description: str = "", data: bytes = b"") -> None:
        super().__init__(sentence)
        self.code = code
        """Header `Nats-Service-Error-Code`, as a rule a number like those of HTTP."""
        self.description = description
        """Header `Nats-Service-Error`."""
        self.data = data
        """The payload that came with it."""


class AnswerBroken(RequestFailed):
    """A chunk of an answer cannot be read, or fewer rows came than the service said."""


class AnswerTooLarge(RequestFailed):
    """An answer has more rows or bytes than are kept of one; the first ones are."""


class PayloadError(LookbackError):
    """A payload, or a header, cannot be sent: too large for the server, or not to be written as JSON."""


class ColumnError(LookbackError):
    """A column is not there, or is of another kind than asked for."""


class ThresholdError(LookbackError):
    """A threshold is something else than a finite number."""


class NotSignedIn(LookbackError):  # noqa: N818 - a state
    """Nobody is signed in where somebody has to be, or somebody without a role."""


class ClosedError(LookbackError):
    """The client or the feed has been closed."""


def one_of(wrong: str, known: Iterable[str], *, what: str) -> str:
    """A sentence on what exists instead of `wrong`: the nearest name first, then the rest (at most 12)."""
    names = sorted(known)
    if not names:
        return f"There are no {what}s yet."
    near = get_close_matches(wrong, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(repr(name) for name in names[:12])
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{hint}The {what}s are {listed}{more}."
