"""Decodes payloads into columns.

Imports environment, errors, subjects and table.
"""
