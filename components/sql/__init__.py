"""SQL over what a page reads: its results are views like those of live().

Imports data, nats, spent and web.
"""
