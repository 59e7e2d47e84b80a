"""`python -m mimstocr`: the command without its script."""

from mimstocr.cli.main import main

main()
