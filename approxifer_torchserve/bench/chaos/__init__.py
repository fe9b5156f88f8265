"""Random faults under load, with every answer checked."""
