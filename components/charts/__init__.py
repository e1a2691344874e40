"""Figures, and the messages that keep them current in the browser.

Imports data, push, spent, web and words.
"""
