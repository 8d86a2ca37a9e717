"""What a run is to be: frozen records, read from the user's files by ``read`` and by nothing else."""
