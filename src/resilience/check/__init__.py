"""Pure functions from a scenario and its history to findings. No I/O, no clock, no randomness."""
