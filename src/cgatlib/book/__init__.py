"""The book: notebooks and their parameters, execution, rendering, and what its pages share."""
