"""Finding references and handing out their memories."""
