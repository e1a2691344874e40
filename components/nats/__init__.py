"""What the server holds, as pages show it: streams, buckets, services, history, workflows.

Imports choices, data, web and words.
"""
