"""`python -m layerlake.cli`: the command where no script is on the path."""

from layerlake.cli.main import main

if __name__ == "__main__":
    main()
