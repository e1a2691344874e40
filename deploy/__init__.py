"""The app in several processes and on several machines: recipes, and a complete setup on loopback."""
