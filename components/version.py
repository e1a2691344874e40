"""The version of the app; docs/changelog.md says what is new in it."""

VERSION = "0.9.0"
