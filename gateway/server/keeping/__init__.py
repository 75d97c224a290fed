"""Whether what the server keeps is safe: whose files they are, how much room there is, and whether
the database may be believed."""
