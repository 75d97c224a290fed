"""The edge as the server starts it: as whom, with which words, found again after a crash."""
