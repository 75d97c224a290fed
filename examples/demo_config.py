"""Configuration of the demo: everything below one directory, on free ports, with the password
`demo` for any user name."""

import os

from gateway.authenticators.password import hash_password

c = get_config()  # noqa: F821

base = os.environ["DEMO_DIRECTORY"]
c.DaskGateway.state_dir = f"{base}/state"
c.DaskGateway.address = "127.0.0.1:0"
c.DaskGateway.stop_clusters_on_exit = True
c.DaskGateway.log_level = "WARNING"
c.Proxy.address = "127.0.0.1:0"
c.LocalBackend.root = f"{base}/local"
c.PasswordAuthenticator.password = hash_password("demo")
c.ClusterConfig.max_workers = 8
c.ClusterConfig.idle_timeout_s = 3600.0
