"""The straggler experiment of the ApproxIFER paper, on models and data that you name."""
