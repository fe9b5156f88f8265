"""Lying workers: what reaches clients, who is found, what it costs."""
