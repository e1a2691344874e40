"""Reading a stream or plain subjects in order, and the list of streams.

Imports connection, decoding, duration, errors, events and subjects.
"""
