"""A stream and its archive in a window that stays equal to them.

Imports connection, decoding, errors, events, memory, requests, series, streams and table.
"""
