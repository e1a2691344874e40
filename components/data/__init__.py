"""What a page reads: rows, values, answers; and what stands where there are none.

Imports launcher, web and words.
"""
