//! Roles composed of stock plugins: submission, relay, mx.
