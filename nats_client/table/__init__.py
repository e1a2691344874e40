"""Columns and the window that they slide through: arrays, without NATS.

Imports errors.
"""
