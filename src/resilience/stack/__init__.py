"""Brings a stack to readiness and knows its roles: one file a component."""
