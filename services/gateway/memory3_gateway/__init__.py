"""The gateway: OpenAI's interface and a page for people, in front of the three services."""
