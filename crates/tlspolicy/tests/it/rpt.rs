//! Sessions are counted, and reports sent.
//!
//! Reports are read by the parser of `mail-auth`, which is not ours, and compared with what RFC
//! 8460 §4.4 spells.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mail_auth::report::tlsrpt::TlsReport;
use merpati_http::{Client, Roots};
use merpati_plugin::resolver::{Lookup, MxRecord};
use merpati_plugin::{
    Answer, Dnssec, ResolveError, Resolver, SessionPolicy, TLS_REPORT_TAG, TlsResults as _,
    TlsSession, async_trait,
};
use merpati_route::tls_rpt::{Fault, PolicyType, ResultType};
use merpati_testkit::authority::{Authority, Dates};
use merpati_tlspolicy::{ReportSettings, Reporter, Results};
use merpati_types::{Domain, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::mailbox::Mailbox;

const HOUR: Duration = Duration::from_secs(3_600);

/// The noon of 22 November 2026.
fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// When all reports of that day are due.
fn next_day() -> Timestamp {
    "2026-11-23T04:00:00Z".parse().unwrap()
}

/// Every host is this machine, and every domain has this record.
#[derive(Default)]
struct Names(Mutex<String>);

#[async_trait]
impl Resolver for Names {
    async fn mx(&self, _: &Domain) -> Lookup<MxRecord> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn addresses(&self, _: &Domain) -> Lookup<IpAddr> {
        Ok(Answer::insecure(vec![Ipv4Addr::LOCALHOST.into()]))
    }

    async fn names(&self, _: IpAddr) -> Lookup<Domain> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn txt(&self, name: &Domain) -> Lookup<Vec<u8>> {
        assert_eq!(name.as_ascii(), "_smtp._tls.a.test");
        match self.0.lock().unwrap().as_str() {
            "" => Err(ResolveError::NxDomain(Dnssec::Insecure)),
            "fails" => Err(ResolveError::Temporary("time-out".to_owned())),
            record => Ok(Answer::insecure(vec![record.as_bytes().to_vec()])),
        }
    }
}

/// Heads, in lower case, and bodies.
type Posted = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes what is posted, and answers with these statuses in turn.
struct Server {
    port: u16,
    posted: Posted,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(authority: &Authority, statuses: &'static [u16]) -> Self {
        let tls = authority.acceptor(&["reports.test"], Dates::Valid).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (posted, asked) = (Posted::default(), Arc::<AtomicUsize>::default());
        let (takes, counts) = (Arc::clone(&posted), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let number = counts.fetch_add(1, Ordering::Relaxed);
                let status = statuses[number.min(statuses.len() - 1)];
                let (head, body) = request(&mut stream).await;
                if status == 200 {
                    takes.lock().unwrap().push((head, body));
                }
                let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = stream.shutdown().await;
            }
        });
        Self { port, posted, asked }
    }

    fn url(&self) -> String {
        format!("https://reports.test:{}/v1", self.port)
    }
}

/// A request's head, in lower case, and its body.
async fn request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.split_once("content-length: ").unwrap().1;
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if bytes.len() == end + 4 + length {
            return (head, bytes.split_off(end + 4));
        }
    }
}

struct World {
    names: Arc<Names>,
    authority: Authority,
    spool: Arc<Mailbox>,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let (names, spool) = (Arc::default(), Arc::default());
        let directory = tempfile::tempdir().unwrap();
        Self { names, authority: Authority::new().unwrap(), spool, directory }
    }

    fn wants(&self, record: impl Into<String>) {
        *self.names.0.lock().unwrap() = record.into();
    }

    fn results(&self) -> Results {
        Results::open(&self.directory.path().join("tls-results"), noon).unwrap()
    }

    fn reporter(&self, results: &Results) -> Reporter {
        let roots = Roots::File(self.authority.file());
        let client = Client::new(Arc::<Names>::clone(&self.names), &roots).unwrap();
        let settings = ReportSettings {
            organization: "Relay & Sons".to_owned(),
            contact: "postmaster@relay.test".to_owned(),
            from: "tls-reports@relay.test".parse().unwrap(),
            submitter: domain("relay.test"),
        };
        let spool = Arc::<Mailbox>::clone(&self.spool);
        Reporter::new(results.clone(), Arc::<Names>::clone(&self.names), client, spool, settings)
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn session(faults: &[Fault]) -> TlsSession {
    let text = "version: STSv1\nmode: testing\nmx: *.a.test\nmax_age: 604800";
    TlsSession {
        domain: domain("a.test"),
        policies: vec![SessionPolicy {
            kind: PolicyType::Sts,
            text: text.lines().map(str::to_owned).collect(),
            hosts: vec!["*.a.test".to_owned()],
        }],
        host: "mx1.a.test".to_owned(),
        address: Some("2001:db8::25".parse().unwrap()),
        source: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        hello: Some("mx1".to_owned()),
        faults: faults.to_vec(),
    }
}

fn fault(result: ResultType) -> Fault {
    Fault { policy: PolicyType::Sts, result }
}

/// Two that fail in one way, one in two ways, and three that do not, one of them without a policy.
fn count(results: &Results) {
    let expired = fault(ResultType::CertificateExpired);
    let mismatch = fault(ResultType::CertificateHostMismatch);
    for faults in [&[][..], &[expired], &[], &[expired], &[expired, mismatch]] {
        results.tried(session(faults));
    }
    let kind = PolicyType::NoPolicyFound;
    let policies = vec![SessionPolicy { kind, text: vec![], hosts: vec![] }];
    results.tried(TlsSession { policies, ..session(&[]) });
}

/// As RFC 8460 §4.4 spells it.
fn expected(report_id: &Value) -> Value {
    let detail = |kind, count| {
        json!({
            "result-type": kind,
            "sending-mta-ip": "192.0.2.1",
            "receiving-mx-hostname": "mx1.a.test",
            "receiving-mx-helo": "mx1",
            "receiving-ip": "2001:db8::25",
            "failed-session-count": count,
        })
    };
    json!({
        "organization-name": "Relay & Sons",
        "date-range": {
            "start-datetime": "2026-11-22T00:00:00Z",
            "end-datetime": "2026-11-22T23:59:59Z",
        },
        "contact-info": "postmaster@relay.test",
        "report-id": report_id,
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string":
                        ["version: STSv1", "mode: testing", "mx: *.a.test", "max_age: 604800"],
                    "policy-domain": "a.test",
                    "mx-host": ["*.a.test"],
                },
                "summary": {
                    "total-successful-session-count": 2,
                    "total-failure-session-count": 3,
                },
                "failure-details": [
                    detail("certificate-expired", 3),
                    detail("certificate-host-mismatch", 1),
                ],
            },
            {
                "policy": { "policy-type": "no-policy-found", "policy-domain": "a.test" },
                "summary": {
                    "total-successful-session-count": 1,
                    "total-failure-session-count": 0,
                },
            },
        ],
    })
}

fn unzip(gzip: &[u8]) -> Vec<u8> {
    let mut json = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip), &mut json).unwrap();
    json
}

#[tokio::test]
async fn reports_are_posted_once_each_day() {
    let world = World::new();
    let server = Server::start(&world.authority, &[200]).await;
    world.wants(format!("v=TLSRPTv1; rua={}", server.url()));
    let results = world.results();
    count(&results);
    let reporter = world.reporter(&results);
    for early in ["2026-11-22T12:00:00Z", "2026-11-22T23:59:59Z"] {
        reporter.send_due(early.parse().unwrap()).await;
        assert_eq!(server.asked.load(Ordering::Relaxed), 0, "{early}");
    }
    reporter.send_due(next_day()).await;
    reporter.send_due(next_day().after(2 * HOUR)).await;
    let posted = server.posted.lock().unwrap().clone();
    let [(head, gzip)] = posted.as_slice() else { panic!("{posted:?}") };
    assert!(head.starts_with("post /v1 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/tlsrpt+gzip\r\n"), "{head}");
    let json = unzip(gzip);
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report, expected(&report["report-id"]));
    let read = TlsReport::parse_json(&json).unwrap();
    let sums: Vec<_> =
        read.policies.iter().map(|p| (p.summary.total_success, p.summary.total_failure)).collect();
    assert_eq!(sums, [(2, 3), (1, 0)]);
}

#[tokio::test]
async fn reports_are_mailed() {
    let world = World::new();
    world.wants("v=TLSRPTv1; rua=mailto:reports@a.test");
    let results = world.results();
    count(&results);
    world.reporter(&results).send_due(next_day()).await;
    let kept = world.spool.take();
    let [(message, bytes)] = kept.as_slice() else { panic!("{} messages", kept.len()) };
    assert_eq!(message.envelope.sender.to_string(), "<>");
    assert_eq!(message.envelope.recipients[0].address.to_string(), "reports@a.test");
    assert!(message.attributes.tags.contains_key(TLS_REPORT_TAG));
    let text = std::str::from_utf8(bytes).unwrap();
    let (header, _) = text.split_once("\r\n\r\n").unwrap();
    let header = header.replace("\r\n ", " ");
    let report = TlsReport::parse_rfc5322(bytes, 1 << 20).unwrap();
    let id = &report.report_id;
    for field in [
        "From: <tls-reports@relay.test>",
        "To: <reports@a.test>",
        &format!("Subject: Report Domain: a.test Submitter: relay.test Report-ID: <{id}>"),
        "TLS-Report-Domain: a.test",
        "TLS-Report-Submitter: relay.test",
        "TLS-Required: No",
        "Date: Mon, 23 Nov 2026 04:00:00 +0000",
        "Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=\"=_tls_report_=\"",
    ] {
        assert!(header.split("\r\n").any(|line| line == field), "{field} is not in {header}");
    }
    let name = "filename=\"relay.test!a.test!1795305600!1795391999.json.gz\"";
    assert!(text.contains(name), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 78 && !line.contains(['\r', '\n'])));
    assert_eq!(report.policies[0].failure_details[0].failed_session_count, 3);
    assert_eq!(report.organization_name.as_deref(), Some("Relay & Sons"));
}

#[tokio::test]
async fn what_fails_is_tried_again_for_a_day_where_it_failed() {
    let world = World::new();
    let server = Server::start(&world.authority, &[500, 404, 200]).await;
    world.wants("fails");
    let results = world.results();
    count(&results);
    let reporter = world.reporter(&results);
    reporter.send_due(next_day()).await;
    world.wants(format!("v=TLSRPTv1; rua=mailto:reports@a.test,{}", server.url()));
    // Not before an hour is over.
    reporter.send_due(next_day().after(HOUR / 2)).await;
    assert_eq!(world.spool.take().len(), 0);
    reporter.send_due(next_day().after(HOUR)).await;
    assert_eq!((world.spool.take().len(), server.asked.load(Ordering::Relaxed)), (1, 1));
    reporter.send_due(next_day().after(2 * HOUR)).await;
    // What was sent is known after a restart, and so is what was not.
    drop((reporter, results));
    let results = world.results();
    let reporter = world.reporter(&results);
    reporter.send_due(next_day().after(3 * HOUR)).await;
    assert_eq!((world.spool.take().len(), server.asked.load(Ordering::Relaxed)), (0, 3));
    let posted = server.posted.lock().unwrap().clone();
    let report: Value = serde_json::from_slice(&unzip(&posted[0].1)).unwrap();
    assert_eq!(report, expected(&report["report-id"]));
    reporter.send_due(next_day().after(4 * HOUR)).await;
    assert_eq!(server.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn nobody_hears_who_does_not_ask_or_cannot_be_reached_for_a_day() {
    for (record, late) in [("", false), ("v=TLSRPTv1; rua=ftp:x", false), ("fails", true)] {
        let world = World::new();
        world.wants(record);
        let results = world.results();
        count(&results);
        let reporter = world.reporter(&results);
        let when = if late { next_day().after(24 * HOUR) } else { next_day() };
        reporter.send_due(when).await;
        world.wants("v=TLSRPTv1; rua=mailto:reports@a.test");
        reporter.send_due(when.after(2 * HOUR)).await;
        assert_eq!(world.spool.take().len(), 0, "{record}");
    }
}

/// However many policies and failures there are, a report has a bounded size; sums stay right.
#[tokio::test]
async fn counts_are_bounded() {
    let world = World::new();
    world.wants("v=TLSRPTv1; rua=mailto:reports@a.test");
    let results = world.results();
    for number in 0..100 {
        let mut many = session(&[fault(ResultType::CertificateExpired)]);
        many.host = format!("mx{number}.{}", "é".repeat(1_000));
        results.tried(many.clone());
        many.policies[0].text.push(format!("x: {number}"));
        many.policies[0].text.push("y".repeat(100_000));
        results.tried(many);
    }
    results.write().await;
    world.reporter(&results).send_due(next_day()).await;
    let bytes: Bytes = world.spool.take().pop().unwrap().1;
    let report = TlsReport::parse_rfc5322(&bytes, 1 << 20).unwrap();
    assert_eq!(report.policies.len(), 4);
    assert_eq!(report.policies[0].summary.total_failure, 100);
    assert_eq!(report.policies[0].failure_details.len(), 40);
    assert!(report.policies[1].policy.policy_string.len() == 5);
}
