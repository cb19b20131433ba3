"""Other methods on the same splits as ours, each in an environment of its own; see the README beside this file."""
