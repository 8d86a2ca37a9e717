"""What became of messages, and in which order they came."""
