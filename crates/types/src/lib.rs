//! Values of the mail world that cannot be wrong: domains, mailboxes, replies, envelopes.
