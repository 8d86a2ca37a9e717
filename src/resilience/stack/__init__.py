"""Readiness, roles and read-back of a running stack; it asks, and changes nothing but the forming of the cluster."""
