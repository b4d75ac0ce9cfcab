"""Who may call what: TLS, bearer tokens, roles on banks, quotas.

It must not know any one service.
"""
