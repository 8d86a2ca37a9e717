"""What happened in one run: ops, deliveries, windows, events, samples and the audit; append and read."""
