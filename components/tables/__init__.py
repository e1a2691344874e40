"""Rows, messages, fields and alerts, as tables and as files.

Imports charts, data, nats, spent, web and words.
"""
