"""`python -m services.comparison`: see service.py."""

from services.comparison.service import main

main()
