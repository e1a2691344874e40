"""Key-value buckets: lists them, and keeps their values current.

Imports connection, decoding, errors, events, feeds, memory, streams and subjects.
"""
