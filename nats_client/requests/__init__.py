"""Questions to services: one answer, an answer in chunks, and who there is to ask.

Imports connection, decoding, errors and subjects.
"""
