//! The fetch of a policy (RFC 8461 §3.3).

use std::time::Duration;

use merpati_http::{Client, HttpError, Limits, Request};
use merpati_route::mta_sts::{FetchFault, Policy, is_policy, policy_host};
use merpati_types::Domain;

/// RFC 8461 §3.3 suggests a time-out of one minute, and 64 KiB at most.
const LIMITS: Limits =
    Limits { time: Duration::from_secs(60), body: 64 << 10, cut: false, plain: false };

/// A domain's policy; or why there is none, and in which words.
pub(super) async fn policy(
    client: &Client,
    domain: &Domain,
    port: u16,
) -> Result<Policy, (FetchFault, String)> {
    let unreachable = |why: String| (FetchFault::Unreachable, why);
    let host = policy_host(domain).ok_or_else(|| unreachable("its name is too long".to_owned()))?;
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let url = format!("https://{}{port}/.well-known/mta-sts.txt", host.as_ascii());
    let response = match client.send(Request::get(url), &LIMITS).await {
        Ok(response) => response,
        Err(HttpError::Certificate(why)) => return Err((FetchFault::Certificate, why)),
        Err(error) => return Err(unreachable(error.to_string())),
    };
    // A redirect too: they must not be followed.
    if response.status != 200 {
        return Err(unreachable(format!("the policy host answers {}", response.status)));
    }
    let kind = response.header("content-type").unwrap_or_default();
    if !is_policy(kind) {
        return Err(unreachable(format!("the policy host answers with {kind:?}")));
    }
    Policy::parse(&response.body).map_err(|error| (FetchFault::Invalid, error.to_string()))
}
