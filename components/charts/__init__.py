"""Figures, and what travels of them to the browser.

Imports data, web and words.
"""
