"""`python -m services.history`: see service.py."""

from services.history.service import main

main()
