"""What a run will take, computed before it starts (docs/plan.md)."""
