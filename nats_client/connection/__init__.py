"""A NATS connection that reconnects by itself, its settings and credentials, and all code that uses nats-py.

Imports environment, errors, events, signatures and subjects.
"""
