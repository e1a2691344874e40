"""What charts and tables show of a window, worked out once for all readers and kept up to date.

Imports decoding, duration, errors, subjects and table.
"""
