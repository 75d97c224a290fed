"""The edge: one public port for scheduler traffic, gRPC and dashboards."""
