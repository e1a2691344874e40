"""The choices of the Explore page, and the page's code that they amount to.

Imports charts, choices, data, nats, push, sql, tables, web and words.
"""
