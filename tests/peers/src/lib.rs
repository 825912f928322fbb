//! Tests against outside software: see `tests/README.md`.
