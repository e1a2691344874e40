"""Payloads to columns.

Imports errors, subjects and table.
"""
