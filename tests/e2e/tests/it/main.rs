//! Tests of the whole.

mod road;
mod scripts;
