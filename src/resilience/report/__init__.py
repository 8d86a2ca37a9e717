"""Renders what was judged: run directory, terminal, JSON, JUnit and one HTML file. It computes nothing."""
