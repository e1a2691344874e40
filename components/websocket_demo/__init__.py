"""A comparison of this app with the NATS websocket client, with the bytes measured on both sides.

Imports charts, data, launcher, push, web and words.
"""
