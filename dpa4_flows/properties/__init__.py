"""What can be asked about a crystal, one property a file: settings, a plan, and a document."""
