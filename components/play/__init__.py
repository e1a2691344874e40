"""The bar with which a viewer moves a playback.

Imports choices, data, push and words.
"""
