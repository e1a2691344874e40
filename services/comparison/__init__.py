"""Publishes for the Comparison page, and measures its websocket side.

Imports accounts and program.
"""
