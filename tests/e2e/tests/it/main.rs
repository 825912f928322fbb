//! Tests of the whole.

mod scripts;
