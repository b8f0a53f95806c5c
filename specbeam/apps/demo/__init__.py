"""The web page: `specbeam demo`."""
