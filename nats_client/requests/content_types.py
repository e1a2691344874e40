"""The content types of a query's chunks. A module of its own, so that services can use it without pandas."""

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
