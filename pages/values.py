"""Key-value."""

import streamlit as st

from components import (
    bucket_settings,
    choose,
    choose_bucket,
    choose_flag,
    choose_text,
    key_history,
    key_list,
    key_value,
    values,
)

name = choose_bucket()
if name is not None:
    bucket_settings(name)
    bucket = values(name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = choose_text("Search", placeholder="Part of a key")
        deleted = choose_flag("Deleted keys too", name="deleted")
    entries = bucket.entries(search, deleted=deleted)
    if not bucket.complete:
        st.caption(
            "This bucket has more keys than are held. The search covers held keys only. Type others below."
        )
    if entries or bucket.unknown or not bucket.complete:
        key_list(bucket, entries)
        names = [entry.key for entry in entries[:500]] or ([search] if search else [])
        if names:
            key = choose("Key", names, own=True)
            key_value(bucket, key)
            st.subheader("History")
            key_history(bucket, key)
    else:
        st.info("No key matches the search." if search else "This bucket is empty.")
