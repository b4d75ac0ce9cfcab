"""What decoding with memories costs, and plain decoding against others: see ``--help``."""
