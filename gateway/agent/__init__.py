"""The program inside each scheduler, and what it is made of. Imports nothing of the client."""
