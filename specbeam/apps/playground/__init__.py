"""The widgets of the notebook `09_playground`."""
