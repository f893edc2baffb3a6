"""What a run costs: measured (`profile`) and planned (`plan`)."""
