"""Publishes figures and facts of this machine.

Imports monitoring and program.
"""
