"""What is served over HTTP/1.1: calls as JSON, dashboards, tunnels, sign-in."""
