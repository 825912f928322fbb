//! How many files the process may have open.

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as it goes without special rights.
pub(super) fn raise_limit() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
