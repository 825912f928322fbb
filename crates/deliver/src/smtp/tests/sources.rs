//! Sending from several addresses, and through proxies.

use std::net::SocketAddr;

use merpati_plugin::TlsSession;
use merpati_plugin::deliver::SourceRests;
use merpati_types::Secret;
use merpati_wire::{ProxyHeader, ProxyProgress};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::source::{ANYWHERE, Choice};
use super::many::Zone;
use super::*;

fn source(name: &str, addresses: &[&str]) -> Source {
    Source {
        name: Some(name.into()),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Source::default()
    }
}

/// A pool of these, which all messages are sent from, and who rests.
fn pool(sources: impl IntoIterator<Item = Source>) -> (Arc<Sources>, Arc<SourceRests>) {
    let members = sources.into_iter().map(|source| (Arc::new(source), 1)).collect();
    let rests = Arc::new(SourceRests::default());
    let sources = Sources::default()
        .with_pool(SourcePool { name: "bulk".into(), members })
        .by_default("bulk")
        .resting(Arc::clone(&rests));
    (Arc::new(sources), rests)
}

fn from(sources: &Arc<Sources>, sink: &Sink) -> Smtp {
    let config = SmtpConfig {
        sources: Arc::clone(sources),
        ..config(sink, Protocol::Smtp, Some(Override::None))
    };
    Smtp::new(config, Arc::new(NoNames)).unwrap()
}

fn in_an_hour() -> Timestamp {
    Timestamp::from_millis(time_of_day().as_millis() + 3_600_000)
}

/// Two addresses of ours, each with a name of its own.
fn two() -> [Source; 2] {
    ["127.0.0.2", "127.0.0.3"].map(|address| Source {
        hello: Some(Domain::parse(&format!("h{}.us.test", &address[8..])).unwrap()),
        ..source(&address[8..], &[address])
    })
}

#[tokio::test]
async fn a_site_sees_the_address_and_the_name_of_the_source() {
    let sink = Sink::start(Script::default()).await;
    let (sources, rests) = pool(two());
    let transport = from(&sources, &sink);
    let site = transport.0.resting_site(&parcel(1, &["1@x.test"], "mail.test")).await;
    let mut expected = Vec::new();
    for (name, other) in [("2", "3"), ("3", "2")] {
        rests.rest(&site, other, in_an_hour());
        let became = deliver(&transport, &["1@x.test"], 1).await;
        assert!(matches!(became.outcomes[0].result, DeliveryResult::Delivered(_)));
        assert_eq!(became.outcomes[0].source.as_deref(), Some(name));
        // What one has opened is not used by the other.
        assert_eq!(became.connections, 1);
        assert_eq!(deliver(&transport, &["1@x.test"], 1).await.connections, 0);
        rests.lift(&site, other);
        expected.push((format!("127.0.0.{name}"), format!("EHLO h{name}.us.test")));
    }
    let hellos = sink.heard().into_iter().filter(|line| line.starts_with("EHLO"));
    let seen: Vec<_> = sink.peers().into_iter().map(|ip| ip.to_string()).zip(hellos).collect();
    assert_eq!(seen, expected);
}

/// The numbers of messages that the sources named 2 and 3 of [`two`] send to this site.
async fn one_of_each(transport: &Smtp) -> [u64; 2] {
    let site = transport.0.resting_site(&parcel(1, &["1@x.test"], "mail.test")).await;
    ["2", "3"].map(|name| {
        let sends = |&seed: &u64| {
            let choice = Choice { pool: None, site: &site, addresses: &[], seed };
            let source = transport.0.config.sources.choose(&choice, time_of_day()).unwrap();
            source.name.as_deref() == Some(name)
        };
        (1..100).find(sends).expect("each has its share")
    })
}

#[tokio::test]
async fn a_site_that_blocks_one_source_gets_its_mail_from_the_other() {
    let blocks = Script { blocks: Some("127.0.0.2"), ..Script::default() };
    let sink = Sink::start(blocks).await;
    let (sources, rests) = pool(two());
    let transport = from(&sources, &sink);
    let messages = one_of_each(&transport).await;
    let mut sent = Vec::new();
    for round in 0..2 {
        for number in messages {
            let parcel = parcel(number, &["1@x.test"], "mail.test");
            let site = transport.0.resting_site(&parcel).await;
            let outcome = deliver_parcel(&transport, parcel, 1).await.outcomes.remove(0);
            let source = outcome.source.clone().expect("somebody spoke");
            let delivered = matches!(outcome.result, DeliveryResult::Delivered(_));
            sent.push((round, source.to_string(), delivered));
            if !delivered {
                assert_eq!(outcome.diagnostic, "421 4.7.0 your address is blocked");
                // As the queue does once it has recognised the reply.
                rests.rest(&site, &source, in_an_hour());
            }
        }
    }
    let expected = [(0, "2", false), (0, "3", true), (1, "3", true), (1, "3", true)];
    let expected = expected.map(|(round, source, delivered)| (round, source.to_owned(), delivered));
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_message_waits_while_all_rest_or_its_pool_is_unknown() {
    let sink = Sink::start(Script::default()).await;
    let (sources, rests) = pool(two());
    let transport = from(&sources, &sink);
    let site = transport.0.resting_site(&parcel(1, &["1@x.test"], "mail.test")).await;
    assert!(site.starts_with("smtp:"), "{site}");
    for name in ["2", "3"] {
        rests.rest(&site, name, in_an_hour());
    }
    let became = deliver(&transport, &["1@x.test"], 1).await;
    let outcome = &became.outcomes[0];
    assert_eq!(deferred(outcome), DeferClass::Local, "the site is well");
    let says = "451 4.4.4 all sources of pool `bulk` rest at this site until 20";
    assert!(outcome.diagnostic.starts_with(says), "{outcome:?}");
    assert_eq!(outcome.source, None);

    let of_pool = |pool: &str| {
        let mut parcel = parcel(1, &["1@x.test"], "mail.test");
        let mut info = (*parcel.info).clone();
        info.message.attributes.source_pool = Some(pool.to_owned());
        parcel.info = Arc::new(info);
        parcel
    };
    let (sources, _) = pool(two());
    let own = SourcePool { name: "two".into(), members: vec![(Arc::new(two()[0].clone()), 1)] };
    let transport = from(&Arc::new(Sources::clone(&sources).with_pool(own)), &sink);
    let became = deliver_parcel(&transport, of_pool("nonsuch"), 1).await;
    let diagnostic = &became.outcomes[0].diagnostic;
    assert_eq!(diagnostic, "451 4.3.5 there is no source pool `nonsuch`");
    assert_eq!(deferred(&became.outcomes[0]), DeferClass::Local);
    assert!(sink.heard().is_empty(), "it is never sent from elsewhere");
    let became = deliver_parcel(&transport, of_pool("two"), 1).await;
    assert_eq!(became.outcomes[0].source.as_deref(), Some("2"));
}

#[tokio::test]
async fn addresses_of_a_family_that_the_source_lacks_are_not_dialled() {
    let sink = Sink::start(Script::default()).await;
    let (sources, _) = pool([source("six", &["::1"])]);
    let became = deliver(&from(&sources, &sink), &["1@x.test"], 1).await;
    let expected =
        "451 4.4.4 no source of pool `bulk` has an address of a family that the site has";
    assert_eq!(became.outcomes[0].diagnostic, expected);
    assert_eq!((deferred(&became.outcomes[0]), became.connections), (DeferClass::Local, 0));
}

#[tokio::test]
async fn of_a_host_with_both_families_that_of_the_source_is_dialled() {
    let sink = Sink::start(Script::default()).await;
    let (sources, _) = pool([source("four", &["127.0.0.2"])]);
    let config = SmtpConfig {
        target: Target::Mx,
        port: sink.address.port(),
        ..SmtpConfig { sources, ..config(&sink, Protocol::Smtp, None) }
    };
    let six = "::1".parse().unwrap();
    let zone = vec![(10, "mx.test", six), (10, "mx.test", sink.address.ip())];
    let transport = Smtp::new(config, Arc::new(Zone(zone))).unwrap();
    let became = deliver(&transport, &["1@mail.test"], 1).await;
    assert!(matches!(became.outcomes[0].result, DeliveryResult::Delivered(_)));
    assert_eq!(became.connections, 1, "nobody has been tried in vain");
}

#[tokio::test]
async fn an_address_that_is_not_ours_rests_and_the_site_is_well() {
    let sink = Sink::start(Script::default()).await;
    // RFC 5737: nobody's.
    let (sources, rests) =
        pool([source("strange", &["192.0.2.77"]), source("ours", &["127.0.0.2"])]);
    let site_rests = || rests.is_resting(ANYWHERE, "strange", time_of_day());
    let transport = from(&sources, &sink);
    // Whose message it is that finds out is as the draw says.
    for _ in 0..2 {
        let mut waited = false;
        for message in 1..12 {
            let became = deliver_parcel(&transport, parcel(message, &["1@x.test"], "mail.test"), 1);
            let outcome = &became.await.outcomes[0];
            match outcome.source.as_deref() {
                Some("ours") => {}
                _ => {
                    assert!(!waited, "it was known");
                    waited = true;
                    assert_eq!(deferred(outcome), DeferClass::Local);
                    let says = "451 4.4.4 cannot send from 192.0.2.77: ";
                    assert!(outcome.diagnostic.starts_with(says), "{outcome:?}");
                }
            }
        }
        assert!(waited && site_rests());
        assert!(rests.lift(ANYWHERE, "strange"));
    }
}

#[derive(Default)]
struct Told(std::sync::Mutex<Vec<TlsSession>>);

impl TlsResults for Told {
    fn tried(&self, session: TlsSession) {
        self.0.lock().unwrap().push(session);
    }
}

/// RFC 8460 §4.4: `sending-mta-ip` is what the host sees.
#[tokio::test]
async fn reports_tell_the_address_that_the_host_sees() {
    let sink = Sink::start(Script::default()).await;
    let by_haproxy = Source { via: Via::Haproxy(haproxy().await), ..source("far", &["127.0.0.4"]) };
    let by_socks = by_socks(socks(0).await, "pass");
    let known = Source { addresses: vec!["127.0.0.9".parse().unwrap()], ..by_socks.clone() };
    for (source, expected) in [
        (source("near", &["127.0.0.2"]), Some("127.0.0.2")),
        (by_haproxy, Some("127.0.0.4")),
        (by_socks, None),
        (known, Some("127.0.0.9")),
    ] {
        let told = Arc::new(Told::default());
        let results: Arc<dyn TlsResults> = Arc::<Told>::clone(&told);
        let config = SmtpConfig {
            target: Target::Mx,
            port: sink.address.port(),
            sources: pool([source]).0,
            tls_results: Some(results),
            ..config(&sink, Protocol::Smtp, None)
        };
        let zone = vec![(10, "mx.test", sink.address.ip())];
        let transport = Smtp::new(config, Arc::new(Zone(zone))).unwrap();
        let became = deliver(&transport, &["1@mail.test"], 1).await;
        assert!(matches!(became.outcomes[0].result, DeliveryResult::Delivered(_)));
        let told = told.0.lock().unwrap();
        assert_eq!(told[0].source.map(|ip| ip.to_string()).as_deref(), expected);
        assert_eq!(told.len(), 1);
    }
}

/// A SOCKS5 proxy that answers the second of its questions with this code, and connects if that
/// is 0.
async fn socks(code: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_socks(stream, code));
        }
    });
    address
}

async fn serve_socks(mut stream: TcpStream, code: u8) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 4]).await?;
    stream.write_all(b"\x05\x02").await?;
    let mut login = [0; 9];
    stream.read_exact(&mut login).await?;
    stream.write_all(&[1, u8::from(login != *b"\x01\x02us\x04pass")]).await?;
    let mut request = [0; 10];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..4], [5, 1, 0, 1]);
    let ip: [u8; 4] = request[4..8].try_into().unwrap();
    let port = u16::from_be_bytes([request[8], request[9]]);
    // The reply and the host's greeting may come at once.
    let mut host = TcpStream::connect((IpAddr::from(ip), port)).await?;
    stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    if code == 0 {
        tokio::io::copy_bidirectional(&mut stream, &mut host).await?;
    }
    Ok(())
}

fn by_socks(address: SocketAddr, password: &str) -> Source {
    let password = Secret::new(password.to_owned());
    let user = Some(SocksUser { name: "us".to_owned(), password });
    Source { via: Via::Socks5(Socks5 { address, user }), ..source("far", &[]) }
}

#[tokio::test]
async fn a_socks_proxy_connects_and_its_failures_are_ours() {
    let sink = Sink::start(Script::default()).await;
    let (sources, _) = pool([by_socks(socks(0).await, "pass")]);
    let became = deliver(&from(&sources, &sink), &["1@x.test"], 1).await;
    assert!(matches!(became.outcomes[0].result, DeliveryResult::Delivered(_)));
    assert_eq!(became.outcomes[0].source.as_deref(), Some("far"));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let check = async |proxy: SocketAddr, password: &str, class, says: &str, rests_anywhere| {
        let (sources, rests) = pool([by_socks(proxy, password)]);
        let became = deliver(&from(&sources, &sink), &["1@x.test"], 1).await;
        let outcome = &became.outcomes[0];
        assert_eq!(deferred(outcome), class, "{says}");
        assert!(outcome.diagnostic.ends_with(says), "{outcome:?}");
        let rests = rests.is_resting(ANYWHERE, "far", time_of_day());
        assert_eq!(rests, rests_anywhere, "{says}");
    };
    let (ours, theirs) = (DeferClass::Local, DeferClass::Connection);
    check(nobody, "pass", ours, "Connection refused (os error 111)", true).await;
    check(sink.address, "pass", ours, "another version answers the greeting", true).await;
    check(socks(0).await, "word", ours, "fails: it refuses user and password", true).await;
    check(socks(2).await, "pass", ours, "connection not allowed by its rules", false).await;
    check(socks(5).await, "pass", theirs, "the proxy says: connection refused", false).await;
}

/// As HAProxy with `accept-proxy` and `usesrc clientip`: connects from where the header says.
async fn haproxy() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_haproxy(stream));
        }
    });
    address
}

async fn serve_haproxy(mut stream: TcpStream) -> std::io::Result<()> {
    let mut octets = [0; 28];
    stream.read_exact(&mut octets).await?;
    let Ok(ProxyProgress::Complete { header, length: 28 }) = ProxyHeader::parse(&octets) else {
        panic!("no header: {octets:?}");
    };
    let ProxyHeader::Tcp { source, destination } = header else { panic!("{header:?}") };
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(source)?;
    let mut host = socket.connect(destination).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut host).await?;
    Ok(())
}

#[tokio::test]
async fn haproxy_is_told_where_to_connect_from() {
    let sink = Sink::start(Script::default()).await;
    let by = |proxy| Source { via: Via::Haproxy(proxy), ..source("far", &["127.0.0.4"]) };
    let (sources, _) = pool([by(haproxy().await)]);
    let became = deliver(&from(&sources, &sink), &["1@x.test"], 1).await;
    assert!(
        matches!(became.outcomes[0].result, DeliveryResult::Delivered(_)),
        "{:?}",
        became.outcomes
    );
    assert_eq!(sink.peers(), ["127.0.0.4".parse::<IpAddr>().unwrap()]);
    // One that is not there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (sources, _) = pool([by(nobody)]);
    let became = deliver(&from(&sources, &sink), &["1@x.test"], 1).await;
    assert_eq!(deferred(&became.outcomes[0]), DeferClass::Local);
    // One whose way to the host is broken hangs up.
    let address = sink.address;
    drop(sink);
    tokio::task::yield_now().await;
    let (sources, _) = pool([by(haproxy().await)]);
    let config = SmtpConfig { sources, ..config_to(address, Protocol::Smtp, Some(Override::None)) };
    let transport = Smtp::new(config, Arc::new(NoNames)).unwrap();
    let became = deliver(&transport, &["1@x.test"], 1).await;
    assert_eq!(deferred(&became.outcomes[0]), DeferClass::Connection);
}
