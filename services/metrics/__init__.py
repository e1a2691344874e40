"""Publishes figures and facts of this machine.

Imports program.
"""
