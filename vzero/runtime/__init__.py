"""How any stage runs: its process, its artefacts, its checkpoints, its seeds."""
