"""Durable state: contract, SQL, memory fake, migrations, feed."""
