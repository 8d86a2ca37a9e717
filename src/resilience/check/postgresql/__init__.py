"""Checks of PostgreSQL, beside what it lost."""
