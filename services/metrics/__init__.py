"""Publishes this machine's figures and facts.

Imports program.
"""
