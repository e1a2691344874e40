"""What the server holds, for pages: streams, consumers, buckets, services, history, workflows.

Imports charts, choices, data, push, spent, units, web and words.
"""
