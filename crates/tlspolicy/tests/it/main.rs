//! Policies fetched from real servers on loopback, and reports sent to them.

#[cfg(test)]
mod mailbox;
#[cfg(test)]
mod rpt;
#[cfg(test)]
mod sts;
