"""One function a command: authorize, validate, transact, wake the reconciler."""
