"""Inside."""

from components.inside import page as inside

inside()
