"""`python -m services.metrics`: see publisher.py."""

from services.metrics.publisher import main

main()
