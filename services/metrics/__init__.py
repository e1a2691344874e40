"""Publishes this machine's figures and facts.

Imports monitoring and program.
"""
