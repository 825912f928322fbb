//! SASL mechanisms as challenge/response machines, both sides.
