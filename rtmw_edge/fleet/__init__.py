"""The board's side of a fleet: join a sweep as a worker, fetch bundles by content, run and time them. No torch."""
