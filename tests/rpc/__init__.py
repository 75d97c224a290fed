"""The services over a real grpc.aio server in this process, with the memory store."""
