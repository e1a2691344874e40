"""Figures, and the messages that keep them current in the browser.

Imports choices, data, push, spent, units, web and words.
"""
