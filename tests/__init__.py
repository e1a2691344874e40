"""Tests mirror the rooms; tests/app/ tests the whole app, in a process and in a browser."""
