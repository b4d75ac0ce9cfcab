"""One writer publishes generations of its banks; any number of readers follow."""
