"""This app beside the NATS websocket client, with the bytes measured on both sides.

Imports charts, data, launcher, push, web and words.
"""
