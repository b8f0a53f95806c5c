"""The command `specbeam`, a file a command; `main` puts them together."""
