"""The transformer that reads explicit memories. Knows torch; knows nothing of gRPC or storage.

Import the modules by name: `config` needs no torch, the others do.
"""
