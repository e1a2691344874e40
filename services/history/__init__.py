"""The history service and its archiver: SQL over NATS, out of DuckDB or PostgreSQL.

Imports program and workflow.
"""
