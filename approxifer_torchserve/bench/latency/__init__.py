"""Open-loop latency against what a user would do instead."""
