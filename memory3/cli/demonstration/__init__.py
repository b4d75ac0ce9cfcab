"""The demonstration: questions about people that no model has seen, and real passages."""
