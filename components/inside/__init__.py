"""The app's own state: for orchestrators, for Prometheus, and as a page.

Imports data, launcher, version, web and words.
"""
