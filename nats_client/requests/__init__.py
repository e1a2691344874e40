"""Requests to services: a single reply, a query's result in chunks, and the discovery of services.

Imports connection, decoding, errors, memory and subjects.
"""
