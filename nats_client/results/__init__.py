"""Results of SQL over live rows: computed once for all readers with the same rights, and kept current.

Imports errors, events, feeds, kv, memory, requests, series, sql, table and watchers.
"""
