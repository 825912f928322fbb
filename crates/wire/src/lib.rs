//! Bytes to SMTP and LMTP commands and replies, and back: the codec for both sides.
