"""Where documents are kept: one protocol, a table on disk or in memory behind it, and the job stores of jobflow."""
