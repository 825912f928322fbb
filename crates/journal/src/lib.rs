//! A durable framed append log with group commit over a disk trait.
