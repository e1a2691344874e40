"""Decodes payloads into columns.

Imports errors, subjects and table.
"""
