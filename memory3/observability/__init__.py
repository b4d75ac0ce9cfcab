"""What the services tell of themselves beside their answers: traces, the event loop's lag, builds.

It knows no service and no gRPC; ``memory3.rpc`` puts it around every call.
"""
