//! Mail between the real servers and outside software, over loopback.
//!
//! | module | the road |
//! |---|---|
//! | [`clients`] | swaks, smtplib, curl, msmtp, nodemailer → submission of the demo → mailbox |
//! | [`from_postfix`] | Postfix → mx → Maildir |
//! | [`to_postfix`] | relay → Postfix, also one that defers and one that refuses |
//! | [`to_exim`] | relay → Exim by BDAT |
//! | [`to_secured`] | relay → Postfix and Exim, whose domains have DANE or MTA-STS |
//! | [`from_fingers`] | posttls-finger, by way of Unbound → mx |
//! | [`to_sasl`] | relay → Postfix that asks Dovecot who we are |
//! | [`by_proxies`] | relay → HAProxy and MicroSocks → mx |
//! | [`to_dovecot`] | mx → Dovecot by LMTP, read back with doveadm |
//! | [`reports`] | our delivery reports → Python's `email`, and `mail-parser` |
//! | [`addresses`] | our SRS and BATV addresses ↔ Mail::SRS, pysrs, postsrsd and Exim |
//! | [`signed_zones`] | our resolver ← zones that Knot signs |
//! | [`dkim`] | our signatures → dkimpy, Mail::DKIM |
//! | [`databases`] | our tables ← PostgreSQL, MariaDB, OpenLDAP; with the feature `databases` |
//!
//! Those with servers need root: Postfix, Exim and Dovecot start as nobody else. Every test starts its
//! own servers in a directory of its own and waits for lines of their logs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod addresses;
mod by_proxies;
mod clients;
#[cfg(feature = "databases")]
mod databases;
mod dkim;
mod dovecot;
mod exim;
mod from_fingers;
mod from_postfix;
mod mail;
mod merpati;
mod namespace;
mod postfix;
mod process;
mod reports;
mod room;
mod sender;
mod signed_zones;
mod to_dovecot;
mod to_exim;
mod to_postfix;
mod to_sasl;
mod to_secured;

/// Whether the full matrices are wanted: `MERPATI_PEERS=all`.
fn everything() -> bool {
    std::env::var_os("MERPATI_PEERS").is_some_and(|extent| extent == "all")
}
