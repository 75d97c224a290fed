"""HTTP/2: gRPC passed on frame by frame, and pages for who prefers it."""
