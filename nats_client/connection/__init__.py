"""One connection to NATS that comes back by itself: settings, credentials, and all that touches nats-py.

Imports errors, events, signatures and subjects.
"""
