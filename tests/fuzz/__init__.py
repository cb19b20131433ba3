"""Damaged and hostile files through the real paths, in a bounded and seeded number: `make fuzz`."""
