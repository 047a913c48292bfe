"""The whole pipeline on one machine: the supervisor, its children, the demo."""
