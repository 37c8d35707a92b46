"""Materials analysis on plain structures and energies: numpy and pymatgen, no engine, no torch."""
