//! The report itself (RFC 8460 §4), and the counts that it is made of.

use std::io::Write as _;
use std::net::IpAddr;

use flate2::Compression;
use flate2::write::GzEncoder;
use merpati_plugin::{SessionPolicy, TlsSession};
use serde::{Deserialize, Serialize};

/// The most policies of one domain in a day that are told apart: one that changes every minute is
/// not worth more.
const POLICIES: usize = 4;
/// The most kinds of failure under one policy that are told apart; more are only in the sums.
const FAILURES: usize = 40;
/// Octets of a policy's lines, and of its host patterns, that are quoted.
const QUOTED: usize = 8 << 10;
/// Octets of a name that a peer gives.
const NAME: usize = 255;

/// A report as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report<'a> {
    pub(super) organization_name: &'a str,
    pub(super) date_range: DateRange,
    pub(super) contact_info: &'a str,
    pub(super) report_id: &'a str,
    pub(super) policies: &'a [PolicyEntry],
}

/// The day, from its first to its last second.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct DateRange {
    pub(super) start_datetime: String,
    pub(super) end_datetime: String,
}

impl Report<'_> {
    /// As JSON, compressed.
    pub(super) fn gzip(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("strings and numbers can be written");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&json).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    }
}

/// What happened under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PolicyEntry {
    policy: Policy,
    summary: Summary,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failure_details: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Policy {
    policy_type: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    policy_string: Vec<String>,
    policy_domain: String,
    // The RFC's grammar has one string, its example and the reports of others a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mx_host: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Failure {
    result_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sending_mta_ip: Option<IpAddr>,
    receiving_mx_hostname: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receiving_mx_helo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receiving_ip: Option<IpAddr>,
    failed_session_count: u64,
}

/// Counts a session under each of its policies. Says whether there was room for it.
pub(super) fn count(entries: &mut Vec<PolicyEntry>, session: &TlsSession) -> bool {
    let mut whole = true;
    for policy in &session.policies {
        let described = describe(policy, session);
        let known = entries.iter().position(|entry| entry.policy == described);
        let place = match known {
            Some(place) => place,
            None if entries.len() < POLICIES => {
                let summary = Summary::default();
                entries.push(PolicyEntry { policy: described, summary, failure_details: vec![] });
                entries.len() - 1
            }
            None => {
                whole = false;
                continue;
            }
        };
        entries[place].count(policy, session);
    }
    whole
}

impl PolicyEntry {
    fn count(&mut self, policy: &SessionPolicy, session: &TlsSession) {
        let mut failed = false;
        for fault in session.faults.iter().filter(|fault| fault.policy == policy.kind) {
            failed = true;
            let failure = Failure {
                result_type: fault.result.as_str().to_owned(),
                sending_mta_ip: session.source,
                receiving_mx_hostname: short(&session.host),
                receiving_mx_helo: session.hello.as_deref().map(short),
                receiving_ip: session.address,
                failed_session_count: 0,
            };
            self.fail(failure);
        }
        match failed {
            true => self.summary.total_failure_session_count += 1,
            false => self.summary.total_successful_session_count += 1,
        }
    }

    fn fail(&mut self, failure: Failure) {
        let same = |known: &&mut Failure| {
            let failed_session_count = known.failed_session_count;
            **known == Failure { failed_session_count, ..failure.clone() }
        };
        let known = self.failure_details.iter_mut().find(same);
        if let Some(known) = known {
            known.failed_session_count += 1;
        } else if self.failure_details.len() < FAILURES {
            self.failure_details.push(Failure { failed_session_count: 1, ..failure });
        }
    }
}

fn describe(policy: &SessionPolicy, session: &TlsSession) -> Policy {
    Policy {
        policy_type: policy.kind.as_str().to_owned(),
        policy_string: quoted(&policy.text),
        policy_domain: session.domain.as_ascii().to_owned(),
        mx_host: quoted(&policy.hosts),
    }
}

/// As many of the lines as are quoted.
fn quoted(lines: &[String]) -> Vec<String> {
    let mut left = QUOTED;
    let within = |line: &&String| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    };
    lines.iter().take_while(within).cloned().collect()
}

fn short(name: &str) -> String {
    let end = (0..=NAME.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name[..end.unwrap_or(0)].to_owned()
}
