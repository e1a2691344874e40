"""Key-value buckets, kept current.

Imports connection, decoding, errors, events, feeds, streams and subjects.
"""
