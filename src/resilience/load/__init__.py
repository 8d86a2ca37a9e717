"""Starts the load generator, waits for its rate, stops it and collects what it wrote."""
