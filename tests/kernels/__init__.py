"""Generated tests: every registered kernel over awkward shapes against the reference."""
