"""Reads streams and plain subjects in order, and lists streams.

Imports connection, decoding, duration, errors, events and subjects.
"""
