//! relay → Postfix and Exim, whose domains ask for TLS by DANE or MTA-STS, and whose certificates
//! are good or not. What is expected is read from the RFCs, and from nothing of ours.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use merpati_testkit::authority::{Authority, Dates};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::exim::{self, Exim};
use crate::mail::{Mail, maildir};
use crate::merpati::Merpati;
use crate::postfix::{Destination, Postfix};
use crate::room::{Flaw, Room, end_entity, free_address};
use crate::sender::Sender;

/// What hosts present; the last one has no TLS. Each has an address of its own.
const SHOWN: [Option<Flaw>; 5] =
    [Some(Flaw::None), Some(Flaw::Name), Some(Flaw::Dates), Some(Flaw::Issuer), None];

/// What a domain asks of who sends to it.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// A DANE-EE record: RFC 7672 §3.1.1.
    EndEntity,
    /// A DANE-TA record: RFC 7672 §3.1.2.
    TrustAnchor,
    /// An MTA-STS policy that is enforced: RFC 8461 §5.
    Enforce,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Postfix,
    Exim,
}

struct Case {
    number: usize,
    peer: Peer,
    asks: Asks,
    shown: Option<Flaw>,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for peer in [Peer::Postfix, Peer::Exim] {
            for asks in [Asks::EndEntity, Asks::TrustAnchor, Asks::Enforce, Asks::Nothing] {
                for shown in SHOWN {
                    cases.push(Self { number: cases.len(), peer, asks, shown });
                }
            }
        }
        cases
    }

    fn domain(&self) -> String {
        format!("d{}.test", self.number)
    }

    /// `tls`, `clear`, or the status of the delay.
    fn expected(&self) -> &'static str {
        match (self.asks, self.shown) {
            // The key is the right one: neither the name, the dates nor the issuer count.
            (Asks::EndEntity, Some(_)) => "tls",
            (Asks::TrustAnchor | Asks::Enforce, Some(Flaw::None)) => "tls",
            (Asks::TrustAnchor | Asks::Enforce, Some(_)) => "4.7.5",
            (Asks::EndEntity | Asks::TrustAnchor | Asks::Enforce, None) => "4.7.4",
            // RFC 7435: encrypted with whomever is better than not.
            (Asks::Nothing, Some(_)) => "tls",
            (Asks::Nothing, None) => "clear",
        }
    }

    fn records(&self, room: &Room, port: u16, peer: &Path) -> String {
        let Self { number, peer: kind, .. } = self;
        let (domain, host) = (self.domain(), format!("h{number}.hosts.test"));
        let place = SHOWN.iter().position(|shown| *shown == self.shown).unwrap();
        let address = address(*kind, place);
        let more = match self.asks {
            Asks::EndEntity => {
                // A host without TLS could have any key.
                let record = end_entity(&peer.join(place.min(3).to_string()));
                format!("_{port}._tcp.{host} TLSA {record}\n")
            }
            Asks::TrustAnchor => format!("_{port}._tcp.{host} TLSA {}\n", room.trust_anchor()),
            Asks::Enforce => {
                format!("_mta-sts.{domain} TXT \"v=STSv1; id=1;\"\nmta-sts.{domain} A 127.0.0.1\n")
            }
            Asks::Nothing => String::new(),
        };
        format!("{domain} MX 10 {host}\n{host} A {address}\n{more}")
    }
}

fn address(peer: Peer, place: usize) -> Ipv4Addr {
    let third = match peer {
        Peer::Postfix => 3,
        Peer::Exim => 4,
    };
    Ipv4Addr::new(127, 0, third, u8::try_from(place + 1).unwrap())
}

/// A directory with a certificate for each address, by its place.
fn certificates(room: &Room, name: &str, user: u32) -> PathBuf {
    let all = room.directory(name, user);
    for (place, shown) in SHOWN.iter().enumerate() {
        let Some(flaw) = shown else { continue };
        let directory = room.directory(&format!("{name}/{place}"), user);
        room.flawed_certificate(&directory, "mx.hosts.test", user, *flaw);
    }
    all
}

fn postfix(room: &Room, port: u16, domains: &[String], certificates: &Path) -> Postfix {
    let more = format!(
        "virtual_mailbox_domains = {}\nvirtual_mailbox_maps = static:bob/\n",
        domains.join(", ")
    );
    let mut services = String::new();
    for (place, shown) in SHOWN.iter().enumerate() {
        let options = match shown {
            Some(_) => format!(
                "-o smtpd_tls_cert_file={0}/{place}/chain.pem -o smtpd_tls_key_file={0}/{place}/key.pem",
                certificates.display()
            ),
            None => "-o smtpd_tls_security_level=none".to_owned(),
        };
        let address = address(Peer::Postfix, place);
        services += &format!("{address}:{port} inet n - n - - smtpd {options}\n");
    }
    Postfix::start_with(free_address(), room, &Destination::Mailboxes, &more, &services)
}

fn exim(room: &Room, port: u16, domains: &[String], certificates: &Path) -> Exim {
    let addresses: Vec<_> =
        (0..SHOWN.len()).map(|at| address(Peer::Exim, at).to_string()).collect();
    let place = "${eval:${extract{4}{.}{$received_ip_address}}-1}";
    let listen = format!(
        "local_interfaces = {}\ndaemon_smtp_ports = {port}\n\
         tls_advertise_hosts = ${{if eq{{$received_ip_address}}{{{}}}{{}}{{*}}}}\n\
         tls_certificate = {certificates}/{place}/chain.pem\n\
         tls_privatekey = {certificates}/{place}/key.pem\n",
        addresses.join(" : "),
        addresses[SHOWN.len() - 1],
        certificates = certificates.display(),
    );
    let at = SocketAddr::from((address(Peer::Exim, 0), port));
    Exim::start_with(room, at, &listen, &domains.join(" : "))
}

/// Serves the policies of all `domains`; answers the port.
fn policies(room: &Room, authority: &Authority, domains: &[String]) -> u16 {
    let names: Vec<_> = domains.iter().map(|domain| format!("mta-sts.{domain}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let acceptor = authority.acceptor(&names, Dates::Valid).unwrap();
    let listener = room.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    room.spawn(async move {
        let policy = "version: STSv1\r\nmode: enforce\r\nmx: *.hosts.test\r\nmax_age: 86400\r\n";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{policy}",
            policy.len()
        );
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // The request is small, and what is asked for is the same for all.
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// `tls` or `clear`, as the peer itself says in its trace field; `None` if it has no such mail.
fn channel(stored: &[Vec<u8>], subject: &str) -> Option<&'static str> {
    let wanted = format!("\r\nSubject: {subject}\r\n");
    let texts = stored.iter().map(|mail| String::from_utf8_lossy(mail));
    let copies: Vec<_> = texts.filter(|text| text.contains(&wanted)).collect();
    assert!(copies.len() < 2, "{} copies of {subject}", copies.len());
    let text = copies.first()?;
    // RFC 3848: ESMTPS is ESMTP after STARTTLS.
    let (_, trace) = text.split_once("Received: ").unwrap();
    let trace = trace.split("\r\nReceived: ").next().unwrap();
    Some(if trace.to_ascii_lowercase().contains("with esmtps") { "tls" } else { "clear" })
}

/// The value of a field of a line of a log.
fn field(line: &str, name: &str) -> String {
    let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_default();
    let value = rest.split(' ').next().unwrap_or_default();
    value.trim_matches('"').to_owned()
}

#[test]
fn postfix_and_exim_get_what_their_domains_let_them() {
    let mut room = Room::new();
    let cases = Case::all();
    let port = free_address().port();
    let postfix_keys = certificates(&room, "keys-of-postfix", 0);
    let exim_keys = certificates(&room, "keys-of-exim", exim::user());
    let zone: Vec<_> = cases
        .iter()
        .map(|case| match case.peer {
            Peer::Postfix => case.records(&room, port, &postfix_keys),
            Peer::Exim => case.records(&room, port, &exim_keys),
        })
        .collect();
    room.sign(&zone.concat());
    let domains: Vec<_> = cases.iter().map(Case::domain).collect();
    let postfix = postfix(&room, port, &domains, &postfix_keys);
    let exim = exim(&room, port, &domains, &exim_keys);
    let authority = Authority::new().unwrap();
    let policy_port = policies(&room, &authority, &domains);
    // Servers drop their privileges.
    let policy_roots = room.path().join("policy-roots.pem");
    fs::copy(authority.file(), &policy_roots).unwrap();
    let more = format!("[mta_sts]\nport = {policy_port}\nca = {policy_roots:?}\n");
    let deliver = format!("ca = {:?}\n", room.ca());
    let relay = Merpati::relay_with(&room, port, &deliver, &more);

    let mut sender = Sender::connect(relay.address);
    for case in &cases {
        let to = vec![format!("bob@{}", case.domain())];
        let name = format!("case {}", case.number);
        sender.send(&Mail { to, ..Mail::new(&name, b"Coo.\r\n") });
    }
    let told: Vec<_> = cases
        .iter()
        .map(|case| relay.process.log.wait(&format!(" to=\"bob@{}\"", case.domain())))
        .collect();
    let sent = |peer| {
        let delivered = |told: &String| field(told, "event") == "delivered";
        cases.iter().zip(&told).filter(|(case, told)| case.peer == peer && delivered(told)).count()
    };
    postfix.process.log.wait_for(sent(Peer::Postfix), "status=sent (delivered to maildir)");
    exim.log.log.wait_for(sent(Peer::Exim), " Completed");
    let (by_postfix, by_exim) = (maildir(&postfix.mailbox("bob")), maildir(&exim.mailbox("bob")));

    let mut wrong = Vec::new();
    for (case, told) in cases.iter().zip(&told) {
        let stored = match case.peer {
            Peer::Postfix => &by_postfix,
            Peer::Exim => &by_exim,
        };
        let event = field(told, "event");
        let outcome = match (event.as_str(), channel(stored, &format!("case {}", case.number))) {
            ("delivered", Some(channel)) => channel.to_owned(),
            ("deferred", None) => field(told, "status"),
            (event, found) => format!("{event}, and it came by {found:?}"),
        };
        if outcome != case.expected() {
            let Case { peer, asks, shown, .. } = case;
            let expected = case.expected();
            wrong.push(format!("{peer:?} {asks:?} {shown:?}: {outcome}, not {expected}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
