"""``python -m layerbridge``: the same as the command ``layerbridge``."""

from layerbridge.cli.app import main

if __name__ == "__main__":
    main()
