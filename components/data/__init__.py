"""The data that a page reads (rows, bucket values, replies), and its empty states.

Imports choices, launcher, spent, web and words.
"""
