"""Speed and memory of this package next to the form in which the network was released."""
