"""Publishes for the comparison, and measures its websocket side.

Imports accounts, monitoring and program.
"""
