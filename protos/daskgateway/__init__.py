"""Protocol buffer messages and gRPC stubs of the gateway."""
