"""Publishes for the Comparison page, and measures its websocket side.

Imports accounts, monitoring and program.
"""
