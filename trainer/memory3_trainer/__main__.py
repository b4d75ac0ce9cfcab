"""Run the trainer's command line."""

from memory3_trainer.cli import app

app(prog_name="python -m memory3_trainer")
