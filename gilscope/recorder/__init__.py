"""Starts a program with the probe in it, keeps its rings supplied, and waits for its end."""
