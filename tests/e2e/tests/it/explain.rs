//! What a real relay says of its own decisions.

use merpati_e2e::demo::Demo;
use merpati_ops::api::{ExplainRequest, FindingView};
use merpati_ops::client::Client;

/// The tree, a line each: key, value and reason, as deep as it is indented.
fn lines(found: &FindingView, depth: usize, out: &mut Vec<String>) {
    let FindingView { key, value, why, below } = found;
    let indent = "  ".repeat(depth);
    out.push(format!("{indent}{key}: {value} ({why})"));
    below.iter().for_each(|below| lines(below, depth + 1, out));
}

fn explain(demo: &Demo, request: &ExplainRequest) -> Vec<String> {
    let client = Client::new(demo.admin("relay"));
    let found: FindingView = client.post("/v1/explain/rcpt", request).unwrap();
    let mut out = Vec::new();
    lines(&found, 0, &mut out);
    out
}

#[test]
fn a_recipient_is_explained_and_dialled() {
    let demo = Demo::start().unwrap();
    let to = |address: &str| ExplainRequest { address: address.to_owned(), ..Default::default() };
    let told = explain(&demo, &to("bob@receiver.test"));
    let mx = demo.address("mx");
    for expected in [
        "recipient: bob@receiver.test ()".to_owned(),
        "  next hop: receiver.test ()".to_owned(),
        "  transport: mx (no transport configured)".to_owned(),
        "    site: mx:mx.receiver.test ()".to_owned(),
        "    destination: receiver.test ()".to_owned(),
        "      mx: not signed ()".to_owned(),
        "    host: mx.receiver.test (MX 10 of receiver.test)".to_owned(),
        format!("      address: [{}]:{} ()", mx.ip(), mx.port()),
        "      dane: none (addresses are not signed)".to_owned(),
        "      tls: may (opportunistic: no policy asks for more)".to_owned(),
        "  limits: 20 at once ([deliver])".to_owned(),
        "  queued: 0 ()".to_owned(),
    ] {
        assert!(told.contains(&expected), "{expected} is not in\n{}", told.join("\n"));
    }
    assert!(!told.iter().any(|line| line.trim_start().starts_with("dial:")));
    // What is found there.
    let told = explain(&demo, &ExplainRequest { dial: true, ..to("bob@receiver.test") });
    let place = format!("      dial: [{}]:{} (it would get the message)", mx.ip(), mx.port());
    assert!(told.contains(&place), "{}", told.join("\n"));
    assert!(told.iter().any(|line| line.contains("channel: TLSv1.3 ")), "{}", told.join("\n"));
    assert!(told.contains(&"        offers: REQUIRETLS ()".to_owned()), "{}", told.join("\n"));
    // Nobody can be sure of a host that unsigned records name.
    let told = explain(&demo, &ExplainRequest { requiretls: true, ..to("bob@receiver.test") });
    let why =
        "the sender requires TLS all the way to receiver.test, but its MX records are not signed";
    let skipped = format!("      tls: skip (REQUIRETLS: {why})");
    assert!(told.contains(&skipped), "{}", told.join("\n"));
    // Where nobody is.
    let told = explain(&demo, &to("who@nowhere.test"));
    let outcome = "      outcome: 550 5.1.2 domain nowhere.test does not exist ()".to_owned();
    assert!(told.contains(&outcome), "{}", told.join("\n"));
    let client = Client::new(demo.admin("relay"));
    let refused = client.post::<FindingView>("/v1/explain/rcpt", &to("nobody"));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("nobody"), "{refused}");
}
