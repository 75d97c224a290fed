"""Who somebody is, by an OpenID provider: tokens that it signs, and its own login page."""
