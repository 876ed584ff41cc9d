"""The commands, thin: each reads its arguments and calls the package."""
