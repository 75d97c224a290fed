"""The edge as processes of this machine: how they begin, give up rights, and end."""
