"""What surrounds the pages on the web server: headers, static files, sign-in, the browser's tab.

Imports launcher and words.
"""
