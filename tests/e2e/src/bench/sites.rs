//! Many domains on few sites: what a dead site and a slow one cost the others.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use merpati_testkit::dns::{DnsServer, Zone};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use super::ours::Relay;
use super::{Plan, median, tool};
use crate::sink::{Keeps, Sink, SinkSettings};
use crate::until;

/// Sites that take mail as it comes.
const GOOD: u8 = 18;
/// Domains on each site.
const DOMAINS: u64 = 50;
/// Messages for each domain.
const EACH: u64 = 10;
/// What the slow site makes of every reply.
const SLOW: Duration = Duration::from_millis(500);
/// How long the good sites may take for all of their mail.
const LIMIT: Duration = Duration::from_secs(120);
/// Octets of a message.
const SIZE: &str = "2048";

/// The sites, at one port, and the names of what they serve.
struct Sites {
    good: Vec<Sink>,
    dns: SocketAddr,
    port: u16,
    _slow: Sink,
    /// Nobody takes what is in its queue, and the queue is full.
    _dead: (TcpListener, TcpStream),
    _server: DnsServer,
    _runtime: Runtime,
}

pub(super) fn measure(plan: &Plan) -> Result<Value> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        alone.push(pass(plan, false)?);
        beside.push(pass(plan, true)?);
    }
    let sites = u64::from(GOOD) + 2;
    Ok(json!({
        "messages": sites * DOMAINS * EACH,
        "domains": sites * DOMAINS,
        "sites": sites,
        "alone_s": median(alone),
        "beside_s": median(beside),
    }))
}

/// Sends mail for the good sites, and `with` the bad ones; answers in how many seconds the good
/// ones had theirs.
fn pass(plan: &Plan, with: bool) -> Result<f64> {
    let sites = Sites::start()?;
    let relay = Relay::by_mx(plan, sites.dns, sites.port)?;
    let good = u64::from(GOOD) * DOMAINS;
    let domains = if with { good + 2 * DOMAINS } else { good };
    let begun = Instant::now();
    let (messages, rcpt) = ((domains * EACH).to_string(), format!("user@d{{n%{domains}}}.test"));
    let load = ["--messages", &messages, "--connections", "20", "--size", SIZE, "--rcpt", &rcpt];
    tool::send(&plan.binaries, relay.address, &load)?;
    let wanted = usize::try_from(good * EACH)?;
    let come = || sites.good.iter().map(Sink::messages).sum::<usize>();
    ensure!(until::holds(LIMIT, || come() >= wanted), "{} of {wanted} came", come());
    Ok(begun.elapsed().as_secs_f64())
}

impl Sites {
    fn start() -> Result<Self> {
        let runtime = Runtime::new()?;
        let settings = |delay| SinkSettings {
            extensions: &["PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"],
            keeps: Keeps::Nothing,
            behind_starttls: "",
            delay,
        };
        let mut good = Vec::new();
        let mut port = 0;
        for number in 0..GOOD {
            let sink = Sink::start_at((site(number), port).into(), settings(Duration::ZERO))?;
            port = sink.address.port();
            good.push(sink);
        }
        let slow = Sink::start_at((site(GOOD), port).into(), settings(SLOW))?;
        let dead = runtime.block_on(dead((site(GOOD + 1), port).into()))?;
        let zone = Zone::parse(&zone()).context("the zone")?;
        let server = runtime.block_on(DnsServer::start(zone))?;
        let dns = server.address();
        Ok(Self { good, dns, port, _slow: slow, _dead: dead, _server: server, _runtime: runtime })
    }
}

fn site(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 3, number + 1).into()
}

/// `d0.test` and so on: the good sites in turn, and behind them the others.
fn zone() -> String {
    let mut zone = String::new();
    for number in 0..GOOD + 2 {
        let _ = writeln!(zone, "mx{number}.site.test A {}", site(number));
    }
    let good = u64::from(GOOD);
    for number in 0..(good + 2) * DOMAINS {
        let site = match number.checked_sub(good * DOMAINS) {
            None => number % good,
            Some(behind) => good + behind % 2,
        };
        let _ = writeln!(zone, "d{number}.test MX 10 mx{site}.site.test");
    }
    zone
}

/// A listener whose queue is full: whoever connects hears nothing at all.
async fn dead(address: SocketAddr) -> Result<(TcpListener, TcpStream)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(address)?;
    let listener = socket.listen(0)?;
    let first = TcpStream::connect(address).await?;
    Ok((listener, first))
}
