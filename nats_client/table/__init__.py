"""The sliding window of rows and its columns, as numpy arrays. Independent of NATS.

Imports errors.
"""
