"""``python -m sentinode``."""

from sentinode.cli import main

if __name__ == "__main__":
    main()
