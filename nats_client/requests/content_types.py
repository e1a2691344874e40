"""The content types of a query's chunks, in a module that does not import pandas, for programs that write them."""

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
