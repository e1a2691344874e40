"""The measured claims: this app beside the plain recipe, in pairs, on one machine. Run `python -m bench`."""
