"""The public API, version 1: messages and stubs made from the .proto files beside this file."""
