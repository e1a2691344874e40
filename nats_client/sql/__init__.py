"""SQL over rows: the guard that checks statements, and DuckDB reading the columns of snapshots.

Imports environment, errors, processes, subjects and table.
"""
