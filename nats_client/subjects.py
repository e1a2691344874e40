"""Rules of subjects, and of the names that become part of one.

Source: https://docs.nats.io/nats-concepts/subjects and ADR-6 (naming rules) of the NATS architecture notes.
"""

import re

from .errors import SubjectError

LONGEST = 1000
"""Characters of a subject to send to: at 4,096 bytes a line the server ends the whole connection."""

_BUCKET = re.compile(r"[A-Za-z0-9_-]+")
_NOT_IN_NAMES = set(" \t\r\n\0.*>/\\")


def check_filter(subject: str) -> str:
    """`subject` when it may stand as a filter, wildcards allowed. Raises SubjectError otherwise."""
    tokens = subject.split(".") if isinstance(subject, str) else [""]
    broken = (
        any(not token or any(c in token for c in " \t\r\n\0") for token in tokens)
        or ">" in tokens[:-1]
        or any(len(token) > 1 and ("*" in token or ">" in token) for token in tokens)
    )
    if broken:
        raise SubjectError(
            f"The subject {subject!r} is not one that NATS allows: tokens separated by dots, "
            "each of them a word, * (any one token) or, at the end, > (all that follow)."
        )
    return subject


def check_subject(subject: str) -> str:
    """`subject` when a message may be sent to it: no wildcards. Raises SubjectError otherwise."""
    if not isinstance(subject, str) or not subject:
        raise SubjectError("A request needs a subject, such as 'orders.status'.")
    if len(subject) > LONGEST or not subject.isprintable():
        shown = subject[:60] + "…" if len(subject) > 60 else subject
        raise SubjectError(
            f"The subject {shown!r} cannot be sent to: at most {LONGEST} printable characters."
        )
    check_filter(subject)
    if {"*", ">"} & set(subject.split(".")):
        raise SubjectError(
            f"The subject {subject!r} has a wildcard. A request goes to one subject: write its tokens out."
        )
    return subject


def check_stream_name(name: str) -> str:
    """`name` when a stream may be called so. Raises SubjectError otherwise."""
    if not isinstance(name, str) or not name or _NOT_IN_NAMES & set(name):
        raise SubjectError(f"{name!r} cannot be the name of a stream: no spaces, dots, slashes or wildcards.")
    return name


def check_bucket(name: str) -> str:
    """`name` when a key-value bucket may be called so (ADR-8). Raises SubjectError otherwise."""
    if not isinstance(name, str) or not _BUCKET.fullmatch(name):
        raise SubjectError(f"{name!r} cannot be the name of a bucket: letters, digits, - and _ only.")
    return name


def check_key(key: str) -> str:
    """`key` when it names one key of a bucket. Raises SubjectError otherwise.

    ADR-8 allows letters, digits and -/_=. in a key that is written. Clients can be told not to look, so what
    is read may be whatever a subject without wildcards may be.
    """
    tokens = key.split(".") if isinstance(key, str) else [""]
    if any(not token or token in ("*", ">") or any(c in token for c in " \t\r\n\0") for token in tokens):
        raise SubjectError(
            f"{key!r} cannot be a key: letters, digits, - / _ = and dots, but no dot at either end, "
            "no two in a row, no spaces and no wildcards."
        )
    return key
