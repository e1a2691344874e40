"""More than one process, and more than one machine: the recipes, and all of it at once on loopback."""
