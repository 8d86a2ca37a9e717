"""What a verdict rests on. Each assumption is a check whose finding is a pass (it holds) or inconclusive."""
