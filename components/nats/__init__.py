"""What the server holds, for pages: streams, buckets, services, history, workflows.

Imports choices, data, spent, web and words.
"""
