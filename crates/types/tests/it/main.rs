//! Tests of the types by table, and round trips of generated values.

mod round_trips;
mod tables;
