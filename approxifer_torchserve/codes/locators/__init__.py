"""Which answers of a group are wrong: the locators, and what they look at."""
