"""Checks subjects, and names that become part of one, and parses patterns with named tokens.

Source: https://docs.nats.io/nats-concepts/subjects and ADR-6 (naming rules) of the NATS architecture notes.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .errors import SubjectError

LONGEST = 1000
"""Maximum bytes of a subject or filter. A control line of more than 4,096 bytes makes the server close the
connection, which all viewers share."""
MOST_FILTERS = 16
"""Maximum number of subject filters of one feed."""
LONGEST_NAME = 255
"""Maximum bytes of a stream's name, as in the server (JSMaxNameLen)."""

_BUCKET = re.compile(r"[A-Za-z0-9_-]+")
_NOT_IN_NAMES = set(" \t\r\n\0.*>/\\")

ENVELOPE = ("_time", "_subject", "_seq")
"""Columns that every row has, regardless of its subject and payload."""


def check_filter(subject: str) -> str:
    """Return `subject` if it is a valid filter; wildcards are allowed. Raises SubjectError otherwise."""
    if not isinstance(subject, str) or not _is_filter(subject):
        raise _not_allowed(subject)
    if not _fits(subject, LONGEST):
        raise SubjectError(f"The subject {_shown(subject)} is too long: at most {LONGEST} bytes.")
    return subject


def check_subject(subject: str) -> str:
    """Return `subject` if one can publish to it: no wildcards. Raises SubjectError otherwise."""
    if not isinstance(subject, str) or not subject:
        raise SubjectError("A request needs a subject, such as 'orders.status'.")
    if not _fits(subject, LONGEST) or not subject.isprintable():
        raise SubjectError(
            f"The subject {_shown(subject)} is not valid. Use at most {LONGEST} bytes, all printable."
        )
    check_filter(subject)
    if {"*", ">"} & set(subject.split(".")):
        raise SubjectError(
            f"The subject {subject!r} has a wildcard. Send a request to one subject, without wildcards."
        )
    return subject


def check_stream_name(name: str) -> str:
    """Return `name` if it is a valid stream name. Raises SubjectError otherwise."""
    if not isinstance(name, str) or not name or _NOT_IN_NAMES & set(name):
        raise SubjectError(
            f"{_shown(name)} is not a valid stream name. It has a space, dot, slash or wildcard."
        )
    if not _fits(name, LONGEST_NAME):
        raise SubjectError(
            f"{_shown(name)} is not a valid stream name. It has more than {LONGEST_NAME} bytes."
        )
    return name


def check_bucket(name: str) -> str:
    """Return `name` if it is a valid bucket name (ADR-8). Raises SubjectError otherwise."""
    if not isinstance(name, str) or not _BUCKET.fullmatch(name):
        raise SubjectError(f"{_shown(name)} is not a valid bucket name. Use letters, digits, - and _.")
    check_stream_name(f"KV_{name}")
    return name


def check_service(name: str) -> str:
    """Return `name` if it is a valid service name (ADR-32). Raises SubjectError otherwise."""
    if not isinstance(name, str) or not _BUCKET.fullmatch(name):
        raise SubjectError(f"{name!r} is not a valid service name. Use letters, digits, - and _.")
    return name


def check_key(key: str) -> str:
    """Return `key` if it can be a key of a bucket. Raises SubjectError otherwise.

    ADR-8 allows letters, digits and -/_=. in keys. But clients can turn that check off when they write, so
    reading accepts any subject without wildcards.
    """
    tokens = key.split(".") if isinstance(key, str) else [""]
    if any(not token or token in ("*", ">") or any(c in token for c in " \t\r\n\0") for token in tokens):
        raise SubjectError(
            f"{_shown(key)} is not a valid key. Use letters, digits, - / _ = and dots, without a dot at "
            "either end, two dots in a row, spaces or wildcards."
        )
    if not _fits(key, LONGEST):
        raise SubjectError(f"The key {_shown(key)} is too long: at most {LONGEST} bytes.")
    return key


class Pattern(NamedTuple):
    """A filter, and the names of its tokens."""

    filter: str
    """The filter for NATS, with wildcards in place of the named tokens. From parse_patterns(), it may be
    several filters, separated by spaces. A filter itself contains no space."""
    names: tuple[str, ...] = ()
    """One name per token of the filter, "" for a token without one. Empty if no token has a name."""


def parse_pattern(subject: str) -> Pattern:
    """Parse a filter with named tokens: "a.{x}.b" becomes the filter "a.*.b" and names its second token x.
    "{rest>}" as the last token becomes ">" and names all tokens from there on. A plain filter is a pattern
    without names. Raises SubjectError."""
    if not isinstance(subject, str) or not ({"{", "}"} & set(subject)):
        return Pattern(check_filter(subject))
    tokens = subject.split(".")
    wildcards, names = list(tokens), [""] * len(tokens)
    for i, token in enumerate(tokens):
        if not {"{", "}"} & set(token):
            continue
        name = token[1:-1]
        if not (token.startswith("{") and token.endswith("}")) or {"{", "}"} & set(name):
            raise SubjectError(
                f"The token {token!r} of the subject {subject!r} is not valid. A name in braces must be the "
                "whole token, as in 'metrics.{kind}.{host}'. Use * to match tokens that contain braces."
            )
        wildcards[i] = "*"
        if name.endswith(">"):
            if i < len(tokens) - 1:
                raise SubjectError(
                    f"The token {token!r} of the subject {subject!r} matches all remaining tokens, so it "
                    "must be the last. Remove the > to match one token."
                )
            wildcards[i], name = ">", name[:-1]
        _check_token_name(name, names, subject)
        names[i] = name
    plain = ".".join(wildcards)
    if not _is_filter(plain):
        raise _not_allowed(subject)
    return Pattern(check_filter(plain), tuple(names))


def parse_patterns(subjects: str | Sequence[str]) -> Pattern:
    """Parse one filter with named tokens, or several, which must have the same names in the same places. A
    filter within another is left out, and the order of filters does not matter. Raises SubjectError."""
    if isinstance(subjects, str):
        return parse_pattern(subjects)
    if not subjects:
        raise SubjectError("The list of subjects is empty. Name one, or leave it out to read all subjects.")
    found = [parse_pattern(subject) for subject in subjects]
    if any(each.names != found[0].names for each in found):
        raise SubjectError(
            f"The subjects {_shown(', '.join(subjects))} name different tokens. Use the same names in the "
            "same places, as in ['a.{host}', 'b.{host}']."
        )
    filters = sorted({each.filter for each in found})
    filters = [each for each in filters if not any(within(each, other) for other in filters if other != each)]
    for i, one in enumerate(filters):
        for other in filters[i + 1 :]:
            if overlap(one, other):
                raise SubjectError(
                    f"The subjects {_shown(one)} and {_shown(other)} overlap: some subjects match both, "
                    "which the server does not accept. Use one filter that covers both."
                )
    if len(filters) > MOST_FILTERS:
        raise SubjectError(
            f"{len(filters)} subjects are too many for one feed: at most {MOST_FILTERS}. Use wildcards, or "
            "several feeds."
        )
    return Pattern(" ".join(filters), found[0].names)


def filters_of(joined: str) -> list[str]:
    """The filters of a Pattern."""
    return joined.split(" ")


def matches_any(subject: str, joined: str) -> bool:
    """True if `subject` matches one of the filters of a Pattern."""
    return any(matches(subject, each) for each in filters_of(joined))


def matches(subject: str, pattern: str) -> bool:
    """True if `subject`, which has no wildcards, matches the filter `pattern`."""
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(tokens) <= len(wanted):
            return False
    elif len(tokens) != len(wanted):
        return False
    return all(there in ("*", token) for token, there in zip(tokens, wanted, strict=False))


def within(one: str, other: str) -> bool:
    """True if every subject that matches the filter `one` also matches the filter `other`."""
    if one.endswith(">") and not other.endswith(">"):
        return False
    return matches(one, other)


def overlap(one: str, other: str) -> bool:
    """True if some subject can match both filters."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


def token_columns(names: Sequence[str], subjects: Iterable[str]) -> dict[str, list[str | None]]:
    """A column for each of the `names` of a pattern: that token of each of `subjects`, None if a subject has
    too few tokens."""
    split = [subject.split(".") for subject in subjects]
    return {
        name: [
            # Only the last name can have several tokens left: it may stand for ">".
            (".".join(tokens[i:]) if i == len(names) - 1 else tokens[i]) if i < len(tokens) else None
            for tokens in split
        ]
        for i, name in enumerate(names)
        if name
    }


def _is_filter(subject: str) -> bool:
    tokens = subject.split(".")
    return not (
        any(not token or any(c in token for c in " \t\r\n\0") for token in tokens)
        or ">" in tokens[:-1]
        or any(len(token) > 1 and ("*" in token or ">" in token) for token in tokens)
    )


def _fits(text: str, most: int) -> bool:
    try:
        return len(text.encode()) <= most
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot encode
        return False


def _shown(text: object) -> str:
    return repr(f"{text[:60]}…" if isinstance(text, str) and len(text) > 60 else text)


def _not_allowed(subject: object) -> SubjectError:
    return SubjectError(
        f"The subject {_shown(subject)} is not valid. Use tokens separated by dots. A token is a word, * "
        "(matches one token) or, at the end, > (matches one or more tokens)."
    )


def _check_token_name(name: str, taken: Sequence[str], subject: str) -> None:
    if not name:
        wrong = "has empty braces. Name the token, as in 'metrics.{kind}', or use * to match one token."
    elif not name.isidentifier():
        wrong = f"names a token {name!r}, which is not a column name. Use letters, digits and underscores."
    elif name in ENVELOPE:
        wrong = f"names a token {name!r}, which is a column of every row. Use another name."
    elif name in taken:
        wrong = f"names two tokens {name!r}. Use different names."
    else:
        return
    raise SubjectError(f"The subject {subject!r} {wrong}")
