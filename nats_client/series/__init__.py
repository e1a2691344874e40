"""Values for charts and tables, computed once per window for all readers, and updated incrementally.

Imports decoding, duration, errors, subjects and table.
"""
