"""The gRPC surface: host, interceptors, conversions, servicers."""
