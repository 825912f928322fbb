//! Authenticators: who a user is, from a file of argon2id hashes.
