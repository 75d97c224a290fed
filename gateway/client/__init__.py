"""The client: Gateway, GatewayCluster, comm scheme, command line, agent."""
