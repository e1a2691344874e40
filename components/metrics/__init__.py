"""Single numbers.

Imports data, push and words.
"""
