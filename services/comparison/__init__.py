"""Publishes for the comparison, and measures its websocket side.

Imports accounts and program.
"""
