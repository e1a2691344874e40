"""Figures, and the messages that keep them current in the browser.

Imports data, spent, web and words.
"""
