"""Says in a sentence why a filter matches no message of a stream."""

from difflib import get_close_matches
from typing import Any

import pandas as pd

from ..connection.connection import Connection
from ..errors import LookbackError, MessageNotFound
from ..subjects import overlap, within

FEW = 10_000
"""Maximum subjects of a stream for a request about several of them. The server visits each subject for the
reply, and publishers wait meanwhile."""
NAMED = 6
"""Subjects listed in a sentence."""


async def why_empty(connection: Connection, stream: str, wanted: str, info: dict[str, Any]) -> str:
    """Why no message that matches `wanted` is in the window, as a sentence; empty if unknown. `info` is the
    stream's STREAM.INFO."""
    config, state = info["config"], info["state"]
    stored = stored_under(config)
    if stored is not None and not any(overlap(wanted, each) for each in stored):
        return _outside(stream, wanted, config, stored)
    subjects = int(state.get("num_subjects") or 0)
    is_one = not {"*", ">"} & set(wanted.split("."))
    if not state["messages"] or (subjects > FEW and not is_one):
        return ""
    try:
        last = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": wanted})
    except MessageNotFound:
        return f"{stream!r} has no message that matches {wanted!r}. " + await _nearest(
            connection, stream, wanted, subjects
        )
    except LookbackError:
        return ""
    when = pd.Timestamp(last["message"]["time"]).strftime("%Y-%m-%d %H:%M:%S")
    return f"The newest message of {stream!r} that matches {wanted!r} was stored at {when} UTC."


def stored_under(config: dict[str, Any]) -> list[str] | None:
    """Filters that cover all subjects under which a stream with this configuration can store messages; None
    if the configuration does not say."""
    found: list[str] = []
    mirror = config.get("mirror")
    for origin in [*([mirror] if mirror else []), *(config.get("sources") or [])]:
        if origin.get("subject_transforms"):
            transforms = origin["subject_transforms"]
            found += [_covering_filter(each.get("dest") or each["src"]) for each in transforms]
        elif origin.get("filter_subject"):
            found.append(origin["filter_subject"])
        else:
            return None
    change = config.get("subject_transform")
    if not change:
        return [*found, *(config.get("subjects") or [])]
    source = change.get("src") or ">"
    taken = [*found, *(config.get("subjects") or [])]
    kept = [each for each in taken if not within(each, source)]
    changed = any(overlap(each, source) for each in taken)
    return [*kept, *([_covering_filter(change["dest"])] if changed else [])]


def _covering_filter(destination: str) -> str:
    """The filter that covers the output of a subject transform (ADR-36)."""
    tokens: list[str] = []
    for token in destination.split("."):
        if "split" in token.lower() or "slice" in token.lower():  # one token, or several
            return ".".join([*tokens, ">"])
        tokens.append("*" if "{{" in token or token.startswith("$") else token)
    return ".".join(tokens)


def _outside(stream: str, wanted: str, config: dict[str, Any], stored: list[str]) -> str:
    if not stored:
        return f"{stream!r} stores no messages: it has no subjects."
    near = get_close_matches(wanted, stored, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    taken = config.get("subjects") or []
    if config.get("subject_transform") and any(overlap(wanted, each) for each in taken):
        return (
            f"{stream!r} captures {wanted!r}, but its subject transform stores messages under "
            f"{_listed(stored)}. Use these subjects.{hint}"
        )
    return f"{wanted!r} matches no subject of {stream!r}, which stores {_listed(stored)}.{hint}"


async def _nearest(connection: Connection, stream: str, wanted: str, count: int) -> str:
    # A role may have rights to some subjects only and must not see the names of the others.
    if count > FEW or connection.rights.role is not None:
        return ""
    try:
        info = await connection.infos.ask(stream, subjects=True)
    except LookbackError:
        return ""
    names = list(info["state"].get("subjects") or ())
    near = get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Its subjects are {_listed(names)}."


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(repr(name) for name in names[:NAMED]) + more
