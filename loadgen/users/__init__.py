"""The users of the platform: their journeys."""
