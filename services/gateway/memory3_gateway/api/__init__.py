"""What the page asks beside OpenAI's interface: banks, references, the state of the services."""
