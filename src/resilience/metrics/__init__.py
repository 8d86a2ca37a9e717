"""Prometheus: raw samples in, nothing judged."""
