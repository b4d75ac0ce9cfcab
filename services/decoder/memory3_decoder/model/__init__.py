"""The model's side of the decoder: one worker, on a thread or in a process of its own."""
