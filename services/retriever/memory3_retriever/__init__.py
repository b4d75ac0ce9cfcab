"""The retriever: keeps banks of references and finds memories in them."""
