"""The demonstration: an exam about people that the model has never seen, in four conditions."""
