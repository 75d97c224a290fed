"""What an administrator writes, and what is said of it before anything starts."""
