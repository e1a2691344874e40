"""The content types of a query's chunks. A file of their own: who writes chunks needs no pandas."""

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
