//! Small keyed state that can be rebuilt or may be lost, on sled.
