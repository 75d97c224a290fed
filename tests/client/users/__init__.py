"""What users write: read by a type checker, never run."""
