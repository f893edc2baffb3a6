"""Rewards of other methods, each a reward file as a user writes one (vzero.arms.reward_file)."""
