"""SQL over rows: the guard around what may be asked, and DuckDB reading the columns of snapshots.

Imports errors, processes, subjects and table.
"""
