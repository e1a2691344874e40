"""Rows, messages, fields and alerts, as tables and as files.

Imports charts, choices, data, launcher, nats, push, spent, units, web and words.
"""
