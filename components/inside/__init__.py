"""The app's own state: for orchestrators, for Prometheus, and as a page.

Imports data, launcher, pages, push, spent, version, web and words.
"""
