"""The control plane: gRPC services, store, reconciler."""
