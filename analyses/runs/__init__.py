"""Work that is resumed: folders, logs and tensor files of runs, teams of processes, grids."""
