"""Figures, and the messages that keep them current in the browser.

Imports data, push, web and words.
"""
