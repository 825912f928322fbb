//! Domains with several hosts, and hosts with several addresses.

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use merpati_plugin::resolver::Answer;

use super::*;

/// Hosts of `mail.test`, with their preferences and addresses.
pub(super) struct Zone(pub(super) Vec<(u16, &'static str, IpAddr)>);

fn answer<T>(records: Vec<T>) -> Lookup<T> {
    match records.is_empty() {
        true => Err(ResolveError::NoData(Dnssec::Insecure)),
        false => Ok(Answer::insecure(records)),
    }
}

#[async_trait]
impl Resolver for Zone {
    async fn mx(&self, _: &Domain) -> Lookup<MxRecord> {
        let mx = |&(preference, host, _): &(u16, &str, IpAddr)| MxRecord {
            preference,
            exchange: Domain::parse(host).unwrap(),
        };
        answer(self.0.iter().map(mx).collect())
    }

    async fn addresses(&self, host: &Domain) -> Lookup<IpAddr> {
        let of_host = self.0.iter().filter(|(_, name, _)| host.as_ascii() == *name);
        answer(of_host.map(|(_, _, address)| *address).collect())
    }

    async fn names(&self, _: IpAddr) -> Lookup<Domain> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn txt(&self, _: &Domain) -> Lookup<Vec<u8>> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }
}

/// By MX, to hosts that all listen on this port.
fn by_mx(port: u16, hosts: &[(u16, &'static str, &str)]) -> Smtp {
    by_mx_as(&[], port, hosts)
}

/// The same, of a server that has these names.
fn by_mx_as(own_names: &[&str], port: u16, hosts: &[(u16, &'static str, &str)]) -> Smtp {
    by_mx_barring(Barred::default(), own_names, port, hosts)
}

/// The same, with addresses that no mail goes to.
fn by_mx_barring(
    barred: Barred,
    own_names: &[&str],
    port: u16,
    hosts: &[(u16, &'static str, &str)],
) -> Smtp {
    let hosts = hosts.iter().map(|&(preference, host, ip)| (preference, host, ip.parse().unwrap()));
    let config = SmtpConfig {
        name: "mx".to_owned(),
        protocol: Protocol::Smtp,
        target: Target::Mx,
        port,
        hello: "relay.test".to_owned(),
        tls: TlsSettings::default(),
        sts: None,
        tls_results: None,
        login: None,
        barred,
        own_names: own_names.iter().map(|name| Domain::parse(name).unwrap()).collect(),
        sources: Arc::default(),
        recipients: 100,
    };
    Smtp::new(config, Arc::new(Zone(hosts.collect()))).unwrap()
}

async fn sink(ip: &str, port: u16, says: &'static [&'static str]) -> Sink {
    let script = Script { after: After::Says(says), ..Script::default() };
    Sink::start_at((ip.parse::<IpAddr>().unwrap(), port).into(), script).await
}

fn is_delivered(became: &Became) -> bool {
    matches!(became.outcomes[0].result, DeliveryResult::Delivered(_))
}

/// A listener whose queue is full: whoever connects hears nothing.
async fn silent(ip: &str, port: u16) -> (TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip.parse::<IpAddr>().unwrap(), port).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let first = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener, first)
}

#[tokio::test]
async fn a_silent_address_is_overtaken_and_remembered() {
    let taker = sink("127.0.0.3", 0, &["250 2.0.0 taken"]).await;
    let port = taker.address.port();
    let _silent = silent("127.0.0.2", port).await;
    let hosts = [(10, "mx.test", "127.0.0.2"), (10, "mx.test", "127.0.0.3")];
    let transport = by_mx(port, &hosts);
    let became = deliver(&transport, &["1@mail.test"], 1).await;
    assert!(is_delivered(&became));
    assert_eq!(became.connections, 2);
    // The other address goes first from now on.
    drop(transport.0.pool.expired(Instant::now() + Duration::from_secs(60)));
    assert_eq!(deliver(&transport, &["1@mail.test"], 1).await.connections, 1);
    // A connection that waits is used whoever would have been first.
    assert_eq!(deliver(&transport, &["1@mail.test"], 1).await.connections, 0);
}

#[tokio::test]
async fn a_worse_host_is_for_when_the_better_ones_fail() {
    let backup = sink("127.0.0.3", 0, &["250 2.0.0 taken"]).await;
    let port = backup.address.port();
    let hosts = [(10, "a.test", "127.0.0.2"), (20, "b.test", "127.0.0.3")];
    let became = deliver(&by_mx(port, &hosts), &["1@mail.test"], 1).await;
    assert!(is_delivered(&became));
    assert_eq!(became.connections, 2, "nobody listens at the first");

    let best = sink("127.0.0.2", port, &["250 2.0.0 taken"]).await;
    assert_eq!(deliver(&by_mx(port, &hosts), &["1@mail.test"], 1).await.connections, 1);
    assert!(best.heard().iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn two_servers_that_defer_are_enough() {
    let busy = &["451 4.3.0 later"];
    let first = sink("127.0.0.2", 0, busy).await;
    let port = first.address.port();
    let second = sink("127.0.0.3", port, busy).await;
    let third = sink("127.0.0.4", port, &["250 2.0.0 taken"]).await;
    let hosts = [
        (10, "a.test", "127.0.0.2"),
        // The same host once more would say the same.
        (10, "a.test", "127.0.0.5"),
        (20, "b.test", "127.0.0.3"),
        (30, "c.test", "127.0.0.4"),
    ];
    let became = deliver(&by_mx(port, &hosts), &["1@mail.test"], 1).await;
    assert_eq!(deferred(&became.outcomes[0]), DeferClass::Peer);
    let asked = [&first, &second, &third]
        .map(|sink| sink.heard().iter().filter(|line| line.starts_with("MAIL")).count());
    assert_eq!(asked, [1, 1, 0]);
    assert_eq!(became.connections, 2);
}

#[tokio::test]
async fn who_serves_a_domain_is_its_site() {
    let hosts = [(10, "b.test", "127.0.0.2"), (10, "a.test", "127.0.0.3"), (20, "c.test", "::1")];
    let transport = by_mx(25, &hosts);
    let site = |hop: &str| {
        let parcel = parcel(1, &["1@x.test"], hop);
        let transport = transport.clone();
        async move { transport.site(&parcel).await.unwrap() }
    };
    assert_eq!(&*site("mail.test").await, "a.test+b.test");
    assert_eq!(site("other.test").await, site("mail.test").await);
    assert_eq!(&*site("[192.0.2.1]").await, "[192.0.2.1]");
    assert_eq!(
        &*by_mx(25, &[]).site(&parcel(1, &["1@x.test"], "own.test")).await.unwrap(),
        "own.test"
    );
}

#[tokio::test]
async fn a_backup_passes_mail_on_to_better_hosts_alone() {
    let best = sink("127.0.0.2", 0, &["250 2.0.0 taken"]).await;
    let port = best.address.port();
    let _as_good = sink("127.0.0.3", port, &["250 2.0.0 taken"]).await;
    let _worse = sink("127.0.0.4", port, &["250 2.0.0 taken"]).await;
    let hosts = |first| {
        [
            (first, "a.test", "127.0.0.2"),
            (20, "us.test", "127.0.0.5"),
            (20, "b.test", "127.0.0.3"),
            (30, "c.test", "127.0.0.4"),
        ]
    };
    let backup = by_mx_as(&["relay.test", "US.test"], port, &hosts(10));
    assert!(is_delivered(&deliver(&backup, &["1@mail.test"], 1).await));
    assert!(best.heard().iter().any(|line| line.starts_with("MAIL")));
    // It waits for them, and does not go round in circles.
    drop(best);
    drop(backup.0.pool.expired(Instant::now() + Duration::from_secs(60)));
    let became = deliver(&backup, &["1@mail.test"], 1).await;
    assert_eq!((deferred(&became.outcomes[0]), became.connections), (DeferClass::Connection, 1));
    let nobody_better = by_mx_as(&["us.test"], port, &hosts(20));
    let became = deliver(&nobody_better, &["1@mail.test"], 1).await;
    assert_eq!(became.outcomes[0].diagnostic, "550 5.4.6 mail for mail.test loops back to us");
    assert_eq!(became.connections, 0);
}

/// Whatever address it is, the name that answers there is ours.
#[tokio::test]
async fn an_exchanger_at_our_own_address_is_a_loop() {
    let ourselves = sink("127.0.0.2", 0, &["250 2.0.0 taken"]).await;
    let port = ourselves.address.port();
    let hosts = [(10, "forged.test", "127.0.0.2"), (20, "forged2.test", "127.0.0.2")];
    let transport = by_mx_as(&["relay.test", "SINK.test"], port, &hosts);
    let became = deliver(&transport, &["1@mail.test"], 1).await;
    let diagnostic = &became.outcomes[0].diagnostic;
    assert!(diagnostic.starts_with("550 5.4.6 mail for forged"), "{diagnostic}");
    assert!(matches!(became.outcomes[0].result, DeliveryResult::Failed { .. }));
    assert!(ourselves.heard().iter().all(|line| !line.starts_with("MAIL")));
}

#[tokio::test]
async fn few_of_very_many_hosts_are_tried() {
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let names: Vec<&'static str> =
        (0..500).map(|n| &*Box::leak(format!("h{n}.test").into_boxed_str())).collect();
    let hosts: Vec<_> = names.iter().map(|&name| (10, name, "127.0.0.2")).collect();
    let became = deliver(&by_mx(port, &hosts), &["1@mail.test"], 1).await;
    assert_eq!(deferred(&became.outcomes[0]), DeferClass::Connection);
    assert_eq!(became.connections, 16);
}

/// Anybody may publish an MX record with our address, or that of a service that trusts us.
#[tokio::test]
async fn forged_addresses_get_no_mail() {
    let taker = sink("127.0.0.3", 0, &["250 2.0.0 taken"]).await;
    let port = taker.address.port();
    let own = Barred {
        networks: vec!["127.0.0.4/31".parse().unwrap()],
        listening: vec![("127.0.0.2".parse::<IpAddr>().unwrap(), port).into()],
    };
    for (hosts, expected) in [
        (vec![(10, "us.test", "127.0.0.2")], "550 5.4.6 mail for mail.test loops back to us"),
        // Those behind us would send it to us.
        (
            vec![(10, "us.test", "127.0.0.2"), (20, "taker.test", "127.0.0.3")],
            "550 5.4.6 mail for mail.test loops back to us",
        ),
        (vec![(10, "taker.test", "127.0.0.3"), (20, "us.test", "127.0.0.2")], "250 2.0.0 taken"),
        (
            vec![(10, "trap.test", "127.0.0.4")],
            "550 5.4.4 no mail host of mail.test has an address",
        ),
        (vec![(10, "trap.test", "127.0.0.5"), (20, "taker.test", "127.0.0.3")], "250 2.0.0 taken"),
    ] {
        let transport = by_mx_barring(own.clone(), &[], port, &hosts);
        let became = deliver(&transport, &["1@mail.test"], 1).await;
        assert_eq!(became.outcomes[0].diagnostic, expected, "{hosts:?}");
    }
}
