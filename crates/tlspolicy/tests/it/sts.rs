//! Policies are fetched, kept and renewed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use merpati_http::{Client, Roots};
use merpati_plugin::resolver::{Lookup, MxRecord};
use merpati_plugin::{Answer, Dnssec, ResolveError, Resolver, StsPolicies as _, async_trait};
use merpati_route::mta_sts::{FetchFault, Memory, Sts};
use merpati_testkit::authority::{Authority, Dates};
use merpati_tlspolicy::{StsSettings, StsStore};
use merpati_types::{Domain, Timestamp};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Every host is this machine, and every domain has this record.
#[derive(Default)]
struct Names {
    record: Mutex<Option<&'static str>>,
}

impl Names {
    fn say(&self, record: Option<&'static str>) {
        *self.record.lock().unwrap() = record;
    }
}

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
        assert!(name.as_ascii().starts_with("_mta-sts."), "{name}");
        match *self.record.lock().unwrap() {
            Some("fails") => Err(ResolveError::Temporary("time-out".to_owned())),
            Some(record) => Ok(Answer::insecure(vec![record.as_bytes().to_vec()])),
            None => Err(ResolveError::NxDomain(Dnssec::Insecure)),
        }
    }
}

/// Serves one answer to every request, and counts them.
struct Server {
    port: u16,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(tls: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::<AtomicUsize>::default());
        let (says, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let mut request = vec![0; 4_096];
                let count = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let path = "GET /.well-known/mta-sts.txt HTTP/1.1\r\n";
                assert!(request.starts_with(path), "{request}");
                counts.fetch_add(1, Ordering::Relaxed);
                let answer = says.lock().unwrap().clone();
                // A client that has read enough is gone.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { port, answer, asked }
    }

    fn say(&self, head: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
    }

    fn say_policy(&self, mode: &str) {
        let body = format!("version: STSv1\r\nmode: {mode}\r\nmx: *.a.test\r\nmax_age: 604800\r\n");
        self.say("200 OK\r\nContent-Type: text/plain; charset=utf-8", &body);
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_420_800_000)
}

struct World {
    names: Arc<Names>,
    server: Server,
    client: Client,
    directory: TempDir,
}

impl World {
    async fn new(dates: Dates, host: &str) -> Self {
        let authority = Authority::new().unwrap();
        let server = Server::start(authority.acceptor(&[host], dates).unwrap()).await;
        let names = Arc::new(Names::default());
        let roots = Roots::File(authority.file());
        let client = Client::new(Arc::<Names>::clone(&names), &roots).unwrap();
        Self { names, server, client, directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> StsStore {
        let settings = StsSettings { port: self.server.port, now };
        let resolver = Arc::<Names>::clone(&self.names);
        let directory = self.directory.path().join("mta-sts");
        StsStore::open(&directory, resolver, self.client.clone(), &settings).unwrap()
    }
}

fn domain() -> Domain {
    Domain::parse("a.test").unwrap()
}

async fn told(store: &StsStore) -> String {
    let memory: Memory = store.policy(&domain()).await;
    match memory.state(now()) {
        Sts::NoPolicy => "nothing".to_owned(),
        Sts::Policy(policy) => policy.mode.as_str().to_owned(),
        Sts::Expired => "expired".to_owned(),
        Sts::Unfetchable(FetchFault::Unreachable) => "unreachable".to_owned(),
        Sts::Unfetchable(FetchFault::Certificate) => "certificate".to_owned(),
        Sts::Unfetchable(_) => "invalid".to_owned(),
    }
}

const FIRST: Option<&str> = Some("v=STSv1; id=1;");

#[tokio::test]
async fn policies_are_fetched_once_and_survive_a_restart() {
    let world = World::new(Dates::Valid, "mta-sts.a.test").await;
    world.server.say_policy("enforce");
    let store = world.open();
    assert_eq!(told(&store).await, "nothing");
    assert_eq!(world.server.asked(), 0);
    world.names.say(FIRST);
    // Many ask at once, and all get what one of them fetches.
    let ask = |store: StsStore| tokio::spawn(async move { told(&store).await });
    let asking: Vec<_> = (0..20).map(|_| ask(store.clone())).collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "enforce");
    }
    assert_eq!(world.server.asked(), 1);
    // It is kept by whoever hides the record.
    drop(store);
    for record in [FIRST, None, Some("fails"), Some("v=other")] {
        world.names.say(record);
        assert_eq!(told(&world.open()).await, "enforce", "{record:?}");
    }
    assert_eq!(world.server.asked(), 0);
    // Another version is fetched beside, and counts once it is here.
    world.server.say_policy("testing");
    world.names.say(Some("v=STSv1; id=2;"));
    let store = world.open();
    assert_eq!(told(&store).await, "enforce");
    while told(&store).await == "enforce" {
        tokio::task::yield_now().await;
    }
    assert_eq!(told(&store).await, "testing");
    assert_eq!(world.server.asked(), 1);
}

#[tokio::test]
async fn what_is_no_policy_counts_for_nothing_and_is_not_fetched_again_at_once() {
    let world = World::new(Dates::Valid, "mta-sts.a.test").await;
    world.names.say(FIRST);
    let good = "version: STSv1\nmode: enforce\nmx: *.a.test\nmax_age: 604800\n";
    let large = format!("{good}{}", "x: y\n".repeat(40_000));
    let plain = "200 OK\r\nContent-Type: text/plain";
    let moved = "301 Moved\r\nContent-Type: text/plain\r\nLocation: https://mta-sts.a.test/";
    for (head, body, expected) in [
        (moved, good, "unreachable"),
        ("404 Not Found\r\nContent-Type: text/plain", good, "unreachable"),
        ("200 OK\r\nContent-Type: text/html", good, "unreachable"),
        ("200 OK", good, "unreachable"),
        (plain, &large, "unreachable"),
        (plain, "<html></html>", "invalid"),
        (plain, "version: STSv1\nmode: enforce\nmax_age: 604800\n", "invalid"),
        (plain, "", "invalid"),
    ] {
        world.server.say(head, body);
        // Nothing is known of the failure after a restart.
        let store = world.open();
        let body = &body[..body.len().min(40)];
        assert_eq!(told(&store).await, expected, "{head} {body}");
        assert_eq!(told(&store).await, expected, "{head} {body}");
        assert_eq!(world.server.asked(), 1, "{head} {body}");
    }
}

#[tokio::test]
async fn policy_hosts_must_be_who_they_should_be() {
    for (dates, host, expected) in [
        (Dates::Valid, "mta-sts.a.test", "enforce"),
        (Dates::Valid, "a.test", "certificate"),
        (Dates::Expired, "mta-sts.a.test", "certificate"),
    ] {
        let world = World::new(dates, host).await;
        world.names.say(FIRST);
        world.server.say_policy("enforce");
        assert_eq!(told(&world.open()).await, expected, "{dates:?} {host}");
    }
}
