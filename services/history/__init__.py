"""The history service and its archiver: SQL over NATS, from DuckDB or PostgreSQL.

Imports program and workflow.
"""
