"""``python -m approxifer_torchserve.cli``: the program where no console script is installed."""

from approxifer_torchserve.cli.main import main

if __name__ == "__main__":
    main()
