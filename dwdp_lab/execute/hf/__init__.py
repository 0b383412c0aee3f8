"""Models of transformers on rank processes: each rank keeps some experts and pulls the others."""
