"""The subjects of a stream as a tree that updates itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from nats_client import Client
from nats_client.errors import SubjectError
from nats_client.series.subject_tree import MOST_OPEN, Branch, SubjectTree
from nats_client.subjects import LONGEST, parse_pattern

from ..choices.choose import choice_of, choose_text, set_choice
from ..data.connection import shared
from ..data.live import View
from ..data.reads import rerun_on
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text
from ..words import clock_text, count_text, cut, in_zone, plain, zone
from .streams import MOST_ON_REQUEST, Counted, Counting, counted, counted_soon, subjects_on_request

_OPEN = "open"
"""The URL parameter, and its key in the session state, for the open levels: their paths, separated by spaces,
which no subject contains."""
_LONGEST_TOKEN = 200  # characters that are shown
_LONGEST_TEXT = 200  # characters that are searched for

_kind = Kind("subject_tree")


@timed
def subject_tree(view: View, *, choice: str | None = None) -> None:
    """Draw the subjects of `view` as a tree, with the number of messages in the stream and the messages per
    second among the rows. The tree updates itself. The viewer can open its levels and search it. choice: a
    click on a subject makes its filter the value of choose() with this label."""
    if "_subject" not in view.columns:
        st.info("These rows have no subjects.")
        return
    key = view.feed.key
    known = _Known()
    if key.stream is None:
        st.caption("No stream stores plain subjects: the messages are those of the rows above.")
    else:
        known = _known(key.stream, key.subject or ">", key.name)
    text = choose_text("Find subjects", name="match", placeholder="part of a subject")[:_LONGEST_TEXT].strip()
    opened = tuple(choice_of(_OPEN, (key.stream, key.subject)).split()[-MOST_OPEN:])

    def clicked(what: object) -> None:
        if not isinstance(what, str) or len(what) > LONGEST + 2:
            return
        if what.startswith("+"):
            st.session_state[_OPEN] = " ".join(_toggled(opened, what[1:]))
        elif choice is not None and _is_filter(what[1:]):
            set_choice(choice, what[1:])

    of = view.feed, view.look_back, known, opened, text, zone()
    _kind.draw(
        f"{view.feed.name_key} {view.look_back}",
        of,
        lambda: _TreeSource(view.drawn, known, opened, text, zone()),
        clicked=clicked,
        chooses=choice is not None,
    )


@dataclass(frozen=True)
class _Known:
    """The way to count the messages of a stream; without a client they are not counted."""

    nats: Client | None = None
    stream: str = ""
    pattern: str = ""
    when: int | None = None
    """When `fixed` was counted, ns since the epoch, UTC."""
    fixed: Counted | None = field(default=None, compare=False)
    """A count on request, which is used in place of current counts."""

    def counts(self) -> Counted | None:
        """`fixed`, or else the counts, at most half a minute old; None while there are none."""
        if self.fixed is not None or self.nats is None:
            return self.fixed
        return counted_soon(self.nats, self.stream, self.pattern)


@dataclass(frozen=True)
class _Countable:
    """Returns, when called, why the subjects of a stream cannot be counted; an empty text if they can."""

    nats: Client
    stream: str
    pattern: str

    def __call__(self) -> str:
        found = counted_soon(self.nats, self.stream, self.pattern)
        return found.failed if found is not None else ""


@dataclass(frozen=True)
class _Course:
    """Returns, when called, the progress of a count."""

    counting: Counting

    def __call__(self) -> tuple[int, bool]:
        return self.counting.done, self.counting.answer.last is not None


def _known(stream: str, pattern: str, name: str) -> _Known:
    """The way to count the messages. Draws a note if that is not possible, or only on request."""
    _, nats = shared(by_code=False)
    found = counted(nats, stream, pattern)
    rerun_on(_Countable(nats, stream, pattern))
    known = _Known(nats, stream, pattern)
    if not found.failed:
        return known
    rest = "The messages below are those of the rows above."
    if not found.too_many:
        st.warning(plain(f"Cannot count the subjects. {found.failed} {rest}"))
        return known
    asked = f"count subjects {name}"
    if found.too_many <= MOST_ON_REQUEST and st.session_state.get(asked):
        counting = subjects_on_request(nats, stream, pattern, found.too_many)
        fixed = counting.answer.last
        rerun_on(_Course(counting))
        if fixed is None:
            share = min(1.0, counting.done / max(1, counting.total))
            how_far = (
                f"{counting.done:,} of {counting.total or found.too_many:,} subjects are counted. {rest}"
            )
            st.progress(share, text=plain(how_far))
            return known
        if not fixed.failed:
            return _Known(nats, stream, pattern, fixed.when, fixed)
        found = fixed
    if found.too_many > MOST_ON_REQUEST:
        rest = f"Up to {MOST_ON_REQUEST:,} can be counted on request. {rest}"
    st.caption(plain(f"{found.failed} {rest}"))
    if 0 < found.too_many <= MOST_ON_REQUEST:
        st.button("Count them in the stream", on_click=st.session_state.update, args=({asked: True},))
    return known


def _toggled(opened: tuple[str, ...], path: str) -> tuple[str, ...]:
    """`opened` with the level of `path`, or without it and those below if it was open."""
    if " " in path or not path:
        return opened
    if path in opened:
        return tuple(each for each in opened if each != path and not each.startswith(f"{path}."))
    return (*opened, path)[-MOST_OPEN:]


def _is_filter(text: str) -> bool:
    """True if `text` is a filter that matches exactly itself: a subject may contain characters
    that have a meaning in a filter."""
    try:
        return parse_pattern(text).filter == text
    except SubjectError:
        return False


def _filter_of(branch: Branch) -> str:
    return f"{branch.path}.>" if branch.goes_on else branch.path


class _TreeSource(JsonSource):
    """Each branch is an entry named "=" and the branch's path: its place, depth, token, state, its filter or
    "", and its numbers as text. The state: 1 open, 0 closed, 2 open because of the search, -1 a leaf. `note`:
    notes about the tree."""

    every = 1.0  # statistics, not news

    def __init__(self, view: View, known: _Known, opened: tuple[str, ...], text: str, zone: str) -> None:
        super().__init__()
        self._again = view.again
        self._feed = view.feed
        self._key = "subject tree", known, text
        self._known = known
        self._opened = opened
        self._text = text
        self._zone = zone

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The tree now."""
        view, counts = self._again(), self._known.counts()
        tree: SubjectTree = self._feed.memo.once(self._key, None, lambda: SubjectTree(self._text))
        listed = counts.counts if counts is not None and not counts.failed else None
        found = tree.branches(view.snapshot, view.now, listed, self._opened)
        rows: dict[str, list[Any]] = {}
        ends: list[tuple[int, int]] = []  # depth and number of what is left out, of the open levels around

        def close(depth: int) -> None:
            while ends and ends[-1][0] > depth:
                at, more = ends.pop()
                cells = [f"{more:,} more with fewer messages", -1, "", "", "", ""]
                rows[f"= {len(rows)}"] = [len(rows), at, *cells]

        for branch in found.found:
            close(branch.depth)
            rows[f"={branch.path}{'' if branch.token else ' '}"] = [len(rows), *self._cells(branch)]
            if branch.left_out:
                ends.append((branch.depth + 1, branch.left_out))
        close(-1)
        notes = [f"{count_text(found.subjects, 'subject')}{' found' if self._text else ''}."]
        if found.left_out:
            notes.append(f"{found.left_out:,} more first tokens have fewer messages.")
        with in_zone(self._zone):
            if counts is not None and listed is not None:
                notes.append(f"Messages in the stream were counted at {clock_text(counts.when)}.")
        notes.append("Per second: of the rows, over 10 s.")
        return {"note": " ".join(notes), **rows}

    def _cells(self, branch: Branch) -> list[Any]:
        state = -1 if not branch.goes_on else int(branch.is_open)
        if branch.is_open and branch.path not in self._opened:
            state = 2
        wanted = _filter_of(branch)
        return [
            branch.depth,
            cut(branch.token, _LONGEST_TOKEN) or "(itself)",
            state,
            wanted if _is_filter(wanted) else "",
            f"{branch.subjects:,}" if branch.goes_on else "",
            f"{branch.messages:,}",
            number_text(round(branch.per_second, 1)) if branch.per_second else "0",
        ]
