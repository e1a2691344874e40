"""Values for charts and tables, computed from a window once for all readers and updated incrementally.

Imports decoding, duration, errors, subjects and table.
"""
