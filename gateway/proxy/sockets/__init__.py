"""Sockets as the kernel knows them: which are ready, who is late, whose peer is gone."""
