"""Any message of a stream: pages of them in both directions, one in full, and text search over a stretch.

Imports connection, decoding, errors, memory, sql and streams.
"""
