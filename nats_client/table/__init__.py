"""The sliding window of rows and its columns, as numpy arrays. Knows nothing of NATS.

Imports errors.
"""
