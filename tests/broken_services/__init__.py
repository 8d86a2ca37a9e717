"""Services with one defect each: platforms that the harness must not be content with."""
