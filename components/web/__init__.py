"""The parts of the web server around the pages: headers, static files, sign-in, the browser's tab.

Imports launcher and words.
"""
