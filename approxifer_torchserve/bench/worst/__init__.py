"""Bad days, on the coded model and on its plain twin."""
