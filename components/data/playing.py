"""The playback of this viewer. The clock above the page sets its stretch, and every read of the page uses
it."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from nats_client import Client, Playback

from ..choices.clock import Clock, clock
from .connection import client

_KEPT = "_playback"


@dataclass
class _Kept:
    """A playback, and the client, end and length that it was created for."""

    of: tuple[Client, int, pd.Timedelta]
    playback: Playback


def playback() -> Playback | None:
    """The playback that the viewer chose; None if the page is live or at a stretch. A new playback starts to
    play, or is paused at the moment that the URL names. It ends with the session, or when the viewer leaves
    it."""
    when = clock()
    kept: _Kept | None = st.session_state.get(_KEPT)
    if when.play is None or when.end_time is None or when.length is None:
        if kept is not None:
            kept.playback.pause()
            del st.session_state[_KEPT]
        return None
    nats = client(by_code=False)
    of = nats, when.end_time.value, when.length
    if kept is None or kept.of != of:
        before, kept = kept, _Kept(of, nats.playback(when.end_time - when.length, when.end_time))
        kept.playback.play(when.play)
        if before is not None and before.of[1:] == of[1:]:  # only the client has changed
            kept.playback.jump(before.playback.moment)
            if not before.playback.playing:
                kept.playback.pause()
        elif when.at is not None:
            kept.playback.pause()
            kept.playback.jump(when.at)
        st.session_state[_KEPT] = kept
    return kept.playback


def now_of(when: Clock) -> pd.Timestamp:
    """The time at which a page with that clock reads, UTC: now, the end of its stretch, or the moment of the
    playback."""
    played = playback()
    if played is not None:
        return pd.Timestamp(played.moment, tz="UTC")
    return when.end_time or pd.Timestamp.now("UTC")
