"""What the server holds, for pages: streams, buckets, services, history, workflows.

Imports choices, data, push, spent, web and words.
"""
