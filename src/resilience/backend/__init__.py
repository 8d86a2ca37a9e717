"""Where members run. Everything that has to know it stands here, and nowhere else."""
