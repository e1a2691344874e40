"""Rows, messages, fields and alerts, as tables and as files.

Imports charts, data, nats, push, spent, web and words.
"""
