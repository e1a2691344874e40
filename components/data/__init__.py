"""What a page reads: rows, bucket values, replies; and what it shows when there are none.

Imports choices, launcher, spent, web and words.
"""
