"""Group-relative policy optimisation by TRL's `GRPOTrainer`, set up exactly, for both roles."""
