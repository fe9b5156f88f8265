"""Which locator finds which lies: a table for every locator on trained networks."""
