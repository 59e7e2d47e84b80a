"""The market profiles, one a file."""
