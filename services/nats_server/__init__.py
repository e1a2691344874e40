"""A nats-server as a child process that ends with its parent.

Imports monitoring.
"""
