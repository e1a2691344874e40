"""The stored messages of a stream: pages in both directions, single messages, and text search over a stretch.

Imports connection, decoding, errors, memory, sql, streams and watchers.
"""
