"""Plugins that say who somebody is: the contract, and what comes with the gateway."""
