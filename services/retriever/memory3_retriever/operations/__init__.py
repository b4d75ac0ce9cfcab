"""What operators do to banks: warm, mend, compact and erase."""
