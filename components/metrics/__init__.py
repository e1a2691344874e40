"""Single numbers.

Imports choices, data, push, spent and units.
"""
