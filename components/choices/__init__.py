"""What a viewer chooses, kept in the address.

Imports web and words.
"""
