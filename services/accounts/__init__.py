"""Accounts, roles and keys in operator mode: who may do what.

Imports nats_server.
"""
