"""What ``perdure demo`` runs: a wiki of the standard library's documentation, and a child process that fills it."""
