"""What the server holds, for pages: streams, buckets, services, history, workflows.

Imports choices, data, web and words.
"""
