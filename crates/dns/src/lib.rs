//! The resolver plugin on hickory-resolver.
