"""`python -m layerlake`: the command, where the script is not on the path."""

from layerlake.cli.main import main

if __name__ == "__main__":
    main()
