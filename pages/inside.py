"""Inside."""

from components import inside

inside()
