"""Tests mirror the rooms; tests/app/ is the whole, in a process and a browser."""
