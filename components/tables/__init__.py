"""Rows, messages, fields and alerts, as tables and as files.

Imports charts, data, launcher, nats, push, spent, units, web and words.
"""
