"""SQL over rows: the guard around what may be asked, and DuckDB reading the columns of snapshots.

Imports environment, errors, processes, subjects and table.
"""
