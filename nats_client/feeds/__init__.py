"""Feeds: a stream and its archive, read into a window that stays equal to them.

Imports connection, decoding, duration, errors, events, memory, requests, series, sql, streams, subjects,
table and watchers.
"""
