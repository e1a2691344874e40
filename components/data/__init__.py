"""What a page reads: rows, values, answers; and what stands where there are none.

Imports web and words.
"""
