"""``python -m nondecoupling`` is the ``nondecoupling`` command."""

from nondecoupling.cli import main

if __name__ == "__main__":
    main()
