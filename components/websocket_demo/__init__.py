"""This app beside the NATS websocket client, with the bytes measured on both sides.

Imports data, web and words.
"""
