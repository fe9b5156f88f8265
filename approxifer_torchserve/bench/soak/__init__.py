"""A long soak: does memory grow with the number of requests?"""
