"""A viewer's choices, kept in the page's URL; among them the clock that all reads obey.

Imports web and words.
"""
