"""What is stored and handed on: documents, the quantities and reasons in them, and where they came from."""
