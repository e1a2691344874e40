"""Single numbers.

Imports data, push, spent and words.
"""
