"""Tests of the backend of Kubernetes over a real API server, controllers and scheduler, with nodes
that only pretend to run pods."""
