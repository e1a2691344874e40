"""Live elements: what a page shows travels by itself, over one websocket per tab.

Imports launcher and web.
"""
