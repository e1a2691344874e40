"""`python -m services.accounts`: see configuration.py."""

from services.accounts.configuration import main

main()
