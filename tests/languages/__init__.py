"""The API in other languages than ours: stub packages, and one run by clients of each."""
