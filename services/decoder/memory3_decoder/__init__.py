"""The decoder service: text generated and scored while explicit memories are read. Stateless."""
