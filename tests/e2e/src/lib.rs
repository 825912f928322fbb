//! Tests of the whole: see `tests/README.md`.
