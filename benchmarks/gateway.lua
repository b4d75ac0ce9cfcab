-- What wrk sends to a gateway: one question of a chat, read from the bank "people".
--   wrk -t1 -c16 -d20s --latency -s benchmarks/gateway.lua http://127.0.0.1:7310/v1/chat/completions
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [[{"model": "small:people", "messages": [
  {"role": "user", "content": "Which instrument does Elsa Durand play?"}]}]]
