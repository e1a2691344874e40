"""A viewer's choices, kept in the page's URL.

Imports web and words.
"""
