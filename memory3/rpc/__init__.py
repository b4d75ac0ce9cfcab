"""What every service and client does the same way over gRPC: errors, deadlines, health, draining.

It knows grpc and nothing of models: no torch may be imported here.
"""
