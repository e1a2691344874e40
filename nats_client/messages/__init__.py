"""Any message of a stream: pages of them in both directions, and one in full.

Imports connection, decoding, errors and streams.
"""
