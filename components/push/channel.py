"""The websocket of a browser tab, which sends it the changes of the live elements on its page.

Nothing on this route is trusted. web/middleware.py refuses other sites. The first message must contain the
ticket that the script issued for this tab, and the cookies must belong to the tab's sign-in. Ticket and
sign-in are checked again twice a second. A frame contains only elements that the script placed for this
viewer.

From the browser, as JSON objects. The first has `ticket`, with `shown` (by element, the last frame of it that
the browser holds, or null) and `hidden`. Then any of: `show` (an element; `at` as in `shown`), `hide`,
`hidden`, `got` (the newest frame that it has drawn, with `pace`, the milliseconds that drawing a frame
takes), `lost` (the last frame before a missing one), `to` (an element, with `said`, the viewer's action
there), and `ask` (a number that the browser chose, with `of`, an element, and `said`, the question).

To the browser, as JSON: `next`, the number of the next frame, with `pace`, the seconds between two frames
that the viewer chose, null while paused; `pace` alone, when it changes; or `answer`, the number of a
question, with `said`.

All other messages are frames, in binary: the frame's number modulo 256, then for each element a varint and
its message. The varint of the last element is twice its number. For all others it is twice the number plus
one, and the length of the message follows as another varint. A frame without elements shows that the
connection is alive.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from nats_client import LookbackError
from nats_client.environment import SIGN_IN_TABS

from ..web.assets import PREFIX
from ..web.compressor import release_unused
from ..web.sign_in import holds, key_of
from ..web.traffic import DIRECT, KEY
from .source import BEAT, beat, elsewhere
from .tabs import Placed, Tab, tabs
from .varints import varints

FASTEST = 0.05
"""The least number of seconds between two frames of a tab."""
AHEAD = 40
"""Frames that may be under way to a browser. A browser that draws or reads more slowly gets the newest state
later, and never a queue of frames."""
QUIET = 5.0
"""Seconds without a frame after which an empty frame is sent."""
FIRST_MESSAGE = 5.0
"""Seconds that a browser has for its ticket."""
MOST_BYTES = 16 * 1024
"""Bytes of one message from a browser."""
MOST_MESSAGES = 300
"""Messages from one browser in five seconds."""
MOST_SHOWN = 1000
"""Elements that a browser has on the screen, including those of the page before."""
MOST_WAITING = 500
"""Open websockets that have not sent a ticket yet. One more closes the oldest of them, so that a client which
opens many silent websockets cannot shut out others."""
MOST_ASKED = 2
"""Questions of one browser that wait for their answers. Any further question is refused."""
SMALL = 300
"""Bytes up to which a frame is sent uncompressed, which costs much less CPU and hardly more bytes."""
SLOWEST = 2.0
"""The most seconds between two frames that a browser may request because it draws slowly."""

NOT_UNDERSTOOD, NO_TICKET, REPLACED, TOO_MANY = 4400, 4401, 4409, 4429
"""Codes with which the server closes the websocket, the last digits as in HTTP."""

_News = tuple[Any, bytes]
"""The state that a browser holds after a message, and the message."""

_answering = ThreadPoolExecutor(4, thread_name_prefix="answering")
"""Separate from the threads of the live elements, because an answer may wait for the server."""
_open: set["Channel"] = set()
_beating: asyncio.Task[None] | None = None
_closing: set[asyncio.Task[None]] = set()
_waiting: dict[asyncio.Timeout, None] = {}

_log = logging.getLogger("lookback")


class NotUnderstoodError(Exception):
    """A browser sent a message that none of our pages sends."""


class Channel:
    """One websocket and the tab that it serves."""

    def __init__(self, socket: WebSocket, tab: Tab, opening: dict[str, Any]) -> None:
        """Raises NotUnderstoodError."""
        self._socket = socket
        self._tab = tab
        self._direct: Callable[[bytes], None] | None = socket.scope.get(DIRECT)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._job: asyncio.Task[None] | None = None
        self._due: set[int] = set()
        self._watched: dict[int, Placed] = {}
        self._sent_at = time.monotonic()
        self._got = tab.frame
        self._needs = 0.0
        self._rest = FASTEST  # seconds between two frames
        self._paced: float | None = tab.pace
        self._pace_changed = False  # since it was sent to the browser
        self._received = (0.0, 0)
        self._asked: set[asyncio.Task[None]] = set()
        self._hidden = bool(opening.get("hidden"))
        shown = opening.get("shown")
        if not isinstance(shown, dict):
            raise NotUnderstoodError
        # Includes elements that the script has not placed yet, as after a restart.
        self._shown: set[int] = set()
        for number, frame in shown.items():
            self._show(number, frame)

    # -- from any thread ---------------------------------------------------------------------------------

    def changed(self) -> None:
        """The tab's elements or pace have changed."""
        with contextlib.suppress(RuntimeError):  # the server is stopping
            self._loop.call_soon_threadsafe(self._watch)

    # -- on the loop -------------------------------------------------------------------------------------

    @property
    def owner(self) -> str | None:
        """The key of the viewer's sign-in; None if sign-in is off."""
        return self._tab.owner

    @property
    def permitted(self) -> bool:
        """True while the viewer still has the rights that the tab was created with."""
        tab = self._tab
        return tabs.get(tab.ticket) is tab and (tab.owner is None or holds(tab.owner, tab.rights))

    async def run(self) -> None:
        """Send and receive until either side closes the websocket. Raises NotUnderstoodError."""
        before, self._tab.channel = self._tab.channel, self
        if isinstance(before, Channel):
            await before.close(REPLACED)
        self._tab.socket = self._socket.headers.get(KEY, "")
        _open.add(self)
        try:
            await self._send_next()
            self._watch()
            self._due.add(0)
            self._wake()
            await self._listen()
        finally:
            _open.discard(self)
            if self._timer is not None:
                self._timer.cancel()
            for job in (self._job, *self._asked):
                if job is not None:
                    job.cancel()
            self._unwatch()
            if self._tab.channel is self:
                self._tab.channel = None

    async def close(self, code: int) -> None:
        """Close the websocket with `code`."""
        _open.discard(self)
        try:
            self._unwatch()
        finally:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has ended already
                await self._socket.close(code)

    def keep_alive(self) -> None:
        """Send an empty frame if no frame was sent for QUIET seconds."""
        if time.monotonic() - self._sent_at > QUIET and not self._hidden and not self._stalled:
            self._due.add(0)
            self._wake()

    @property
    def _stalled(self) -> bool:
        return self._tab.frame - self._got >= AHEAD

    async def _send_next(self) -> None:
        await self._socket.send_text(json.dumps({"next": self._tab.frame + 1, "pace": self._tab.pace}))
        self._paced = self._tab.pace

    async def _listen(self) -> None:
        while True:
            message = _read(await self._socket.receive_text())
            now = time.monotonic()
            since, count = self._received
            self._received = (now, 1) if now - since > 5 else (since, count + 1)
            if self._received[1] > MOST_MESSAGES:
                raise NotUnderstoodError
            await self._receive(message)

    async def _receive(self, message: dict[str, Any]) -> None:
        if "got" in message:
            self._got = max(self._got, min(_whole(message["got"]), self._tab.frame))
            self._needs = min(SLOWEST, _whole(message.get("pace", 0)) / 1000)
            self._rest = max(FASTEST, self._tab.pace or 0.0, self._needs)
            self._wake()
        if "lost" in message:
            frame = _whole(message["lost"])
            for placed in self._tab.placed.values():
                placed.back_to(frame)
            # Skip a number, so that the next frame differs from those under way.
            self._tab.frame += 1
            self._got = self._tab.frame
            await self._send_next()
            self._due.update(self._watched)
            self._wake()
        if "hidden" in message:
            self._hidden = message["hidden"] is True
            self._watch()
            self._due.add(0)  # a sign of life
            self._wake()
        if "show" in message:
            self._show(message["show"], message.get("at"))
            self._watch()
        if "hide" in message:
            self._shown.discard(_whole(message["hide"]))
            self._watch()
        if "to" in message:
            to = self._tab.placed.get(_whole(message["to"]))
            if to is not None and isinstance(message.get("said"), dict):
                to.element.receive(message["said"])
                self._due.add(to.number)
                self._wake()

        if "ask" in message:
            number, asked = _whole(message["ask"]), self._tab.placed.get(_whole(message.get("of")))
            if len(self._asked) >= MOST_ASKED:
                await self._reply(number, {"error": "Your last question has no answer yet. Try again."})
            elif asked is None or not isinstance(message.get("said"), dict):
                await self._reply(number, {"error": "This is no longer on the page."})
            else:
                task = self._loop.create_task(self._answer(number, asked, message["said"]))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)

    async def _answer(self, number: int, asked: Placed, question: dict[str, Any]) -> None:
        answer = await self._loop.run_in_executor(_answering, _answer_of, asked, question)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):  # _listen notices it as well
            if self.permitted:
                await self._reply(number, answer)

    async def _reply(self, number: int, answer: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps({"answer": number, "said": answer}))

    def _show(self, number: object, frame: object) -> None:
        self._shown.add(_whole(number))
        if len(self._shown) > MOST_SHOWN:
            raise NotUnderstoodError
        placed = self._tab.placed.get(_whole(number))
        if placed is None:
            return  # the page has changed meanwhile, or its run has not placed this element yet
        if frame is None:
            placed.states.clear()
        else:
            placed.back_to(_whole(frame))

    def _watch(self) -> None:
        """Watch the sources of the elements that are shown, and no others."""
        pace = self._tab.pace
        self._rest = max(FASTEST, pace or 0.0, self._needs)
        if pace != self._paced:
            self._pace_changed = True
            self._wake()
        wanted = {}
        if pace is not None and not self._hidden and self in _open:
            wanted = {number: placed for number, placed in self._tab.placed.items() if number in self._shown}
        for number, watched in list(self._watched.items()):
            if wanted.get(number) is not watched:
                del self._watched[number]
                watched.element.source.unwatch((self, number))
        for number, each in wanted.items():
            self._watched[number] = each
            each.element.source.watch((self, number), self._waker(number), pace or FASTEST)

    def _waker(self, number: int) -> Callable[[], None]:
        def wake() -> None:
            self._due.add(number)
            self._wake()

        return wake

    def _unwatch(self) -> None:
        for number, placed in self._watched.items():
            placed.element.source.unwatch((self, number))
        self._watched.clear()

    def _wake(self) -> None:
        """Send the elements that are due: at once, or after the pause between two frames."""
        if self._timer is not None or self._job is not None:
            return
        if (left := self._sent_at + self._rest - time.monotonic()) > 0:
            self._timer = self._loop.call_later(left, self._rested)
        else:
            self._send()

    def _rested(self) -> None:
        self._timer = None
        self._send()

    def _send(self) -> None:
        """Send the elements that are due. Slow work is done in a task."""
        if self not in _open or ((self._stalled or not self._due) and not self._pace_changed):
            return  # the event that ends this state calls _wake()
        if self._pace_changed or not self._are_quick():
            self._job = self._loop.create_task(self._send_slowly())
            return
        frame = self._frame(self._due, _next)
        self._due.clear()
        if frame is None:
            return
        if self._direct is None or len(frame.message) > SMALL:
            self._job = self._loop.create_task(self._send_slowly(frame))
            return
        with contextlib.suppress(RuntimeError):  # the socket is closed, which _listen notices as well
            self._direct(frame.message)
            self._was_sent(frame)

    async def _send_slowly(self, frame: "_Frame | None" = None) -> None:
        try:
            if self._pace_changed:
                self._pace_changed, self._paced = False, self._tab.pace
                await self._socket.send_text(json.dumps({"pace": self._paced}))
            if frame is None and not self._stalled:
                due, self._due = self._due, set()
                found = {}
                for placed in [each for number, each in self._watched.items() if number in due]:
                    if placed.element.source.ready:
                        held = placed.held
                        found[placed] = held, await elsewhere(partial(_next, placed, held))
                # If the browser has started over meanwhile, the element is due again.
                frame = self._frame(due, lambda placed, now: _if_held(now, *found.get(placed, (None, None))))
            if frame is not None:
                await self._socket.send_bytes(frame.message)
                self._was_sent(frame)
        except (RuntimeError, WebSocketDisconnect, OSError):
            return  # the socket is closed, which _listen notices as well
        finally:
            self._job = None
        if self._due or self._pace_changed:
            self._wake()

    def _was_sent(self, frame: "_Frame") -> None:
        if self._tab.sent is not None:
            self._tab.sent(frame.number, [placed.element for placed, *_ in frame.news])

    def _are_quick(self) -> bool:
        for number in self._due:
            placed = self._watched.get(number)
            if placed is not None and not placed.element.is_quick(placed.held):
                return False
        return True

    def _frame(self, due: set[int], next_of: Callable[[Placed, Any], _News | None]) -> "_Frame | None":
        """The next frame; None if there is nothing to send."""
        news: list[tuple[Placed, Any, bytes]] = []
        for number in sorted(due) if len(due) > 1 else due:
            placed = self._watched.get(number)
            if placed is None or not placed.element.source.ready:
                continue
            if (found := next_of(placed, placed.held)) is not None:
                news.append((placed, *found))
        if not news and 0 not in due:
            return None
        frame = self._tab.frame = self._tab.frame + 1
        parts = [_BYTES[frame & 255]]
        for placed, state, message in news[:-1]:
            placed.states.append((frame, state))
            parts += [_key(2 * placed.number + 1), varints(len(message)), message]
        if news:
            placed, state, message = news[-1]
            placed.states.append((frame, state))
            parts += [_key(2 * placed.number), message]
        self._sent_at = time.monotonic()
        return _Frame(frame, news, b"".join(parts))


class _Frame(NamedTuple):
    number: int
    news: list[tuple[Placed, Any, bytes]]
    message: bytes


_BYTES = [bytes((number,)) for number in range(256)]
_key = lru_cache(1024)(varints)


def _next(placed: Placed, held: Any) -> _News | None:
    """The changes of an element that the browser lacks. An element that fails is no longer updated, and does
    not affect the others."""
    try:
        return placed.element.next(held)
    except Exception:
        if not placed.failed:
            placed.failed = True
            _log.exception("A live element stands still.")
        return None


def _answer_of(placed: Placed, question: dict[str, Any]) -> dict[str, Any]:
    try:
        return placed.element.answer(question)
    except LookbackError as error:
        return {"error": str(error)}
    except Exception:
        _log.exception("A question of a viewer has no answer.")
        return {"error": "This cannot be answered: there is an error in the app, and its log has it."}


def _if_held(now: Any, held: Any, found: _News | None) -> _News | None:
    return found if now is held else None


def _whole(number: object) -> int:
    if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 10:
        return int(number)  # a key of `shown`, which JSON makes a string
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**53:
        raise NotUnderstoodError
    return number


def _read(text: str) -> dict[str, Any]:
    if len(text) > MOST_BYTES:
        raise NotUnderstoodError
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise NotUnderstoodError from None
    if not isinstance(message, dict):
        raise NotUnderstoodError
    return message


async def _serve(socket: WebSocket) -> None:
    await socket.accept()
    try:
        async with asyncio.timeout(FIRST_MESSAGE) as limit:
            _make_room(limit)
            try:
                opening = _read(await socket.receive_text())
            finally:
                _waiting.pop(limit, None)
        tab = tabs.get(str(opening.get("ticket")))
        if tab is None or tab.owner not in (None, key_of(socket.cookies)):
            await socket.close(NO_TICKET)
            return
        if has_too_many(tab.owner):
            await socket.close(TOO_MANY)
            return
        channel = Channel(socket, tab, opening)
        del tab  # so that this frame does not keep it; the session does
        if not channel.permitted:
            await socket.close(NO_TICKET)
            return
        _start_beating()
        await channel.run()
    except (NotUnderstoodError, KeyError, TimeoutError):
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(NOT_UNDERSTOOD)
    except WebSocketDisconnect:
        pass


def has_too_many(owner: str | None) -> bool:
    """True if a sign-in may open no more websockets; False without sign-in."""
    return owner is not None and sum(each.owner == owner for each in _open) >= SIGN_IN_TABS.read()


def _make_room(limit: asyncio.Timeout) -> None:
    _waiting[limit] = None
    if len(_waiting) > MOST_WAITING:
        oldest = next(iter(_waiting))
        del _waiting[oldest]
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())


def _start_beating() -> None:
    global _beating
    if _beating is None or _beating.done():
        _beating = asyncio.create_task(_beat())


async def _beat() -> None:
    """While there are channels, close those that are no longer permitted, keep the others alive, and release
    unused memory."""
    await asyncio.sleep(0)
    while _open:
        beat()
        release_unused()
        for channel in list(_open):
            try:
                permitted = channel.permitted
                if permitted:
                    channel.keep_alive()
            except Exception:  # an error for one viewer must not stop the checks of the others
                _log.exception("A tab's websocket is ended.")
                permitted = False
            if not permitted:  # in a task, because a stalled browser must not delay the others
                closing = asyncio.create_task(channel.close(NO_TICKET))
                _closing.add(closing)
                closing.add_done_callback(_closing.discard)
        await asyncio.sleep(BEAT / 2)


# The second route is for an app below a base path (server.baseUrlPath).
routes: list[BaseRoute] = [
    WebSocketRoute(f"/{PREFIX}/push", _serve),
    WebSocketRoute(f"/{{base:path}}/{PREFIX}/push", _serve),
]
