//! A great deal of mail for a site that does not answer, and a little for one that does.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::relay::{Extent, hand_over};
use crate::demo::Demo;
use crate::sink::{Sink, SinkSettings};
use crate::until;

const LIMIT: Duration = Duration::from_secs(120);

/// How the dead site is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Nobody listens.
    Refuses,
    /// It takes connections, and never says a word.
    Silent,
}

/// Queues `dead` messages for a dead site, then 100 for a live one; answers how long those took,
/// from the first connection to the last arrival.
///
/// # Errors
/// A message is refused, or one for the live site does not arrive.
pub fn run(how: Dead, dead: usize) -> Result<Duration> {
    let sink = Sink::start(SinkSettings {
        extensions: &["PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"],
        ..SinkSettings::default()
    })?;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = silent.local_addr()?.port();
    let held: Mutex<Vec<TcpStream>> = Mutex::default();
    if how == Dead::Refuses {
        drop(silent);
    } else {
        // Held for as long as this process lives: nobody reads, nobody answers.
        thread::spawn(move || {
            for stream in silent.incoming().flatten() {
                held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
    }
    let mut demo = Demo::start()?;
    let transport = |domain: &str, port: u16| {
        format!(
            "\n[[transport]]\nmatch = \"{domain}\"\n\
             smtp = {{ host = \"mail.sender.test\", port = {port}, tls = \"none\" }}\n"
        )
    };
    let both = transport("dead.test", port) + &transport("sink.test", sink.address.port());
    demo.reconfigure("relay", |text| format!("{text}{both}"))?;
    let relay = demo.address("relay");
    hand_over(relay, Extent { messages: dead, clients: 20, size: 1024 }, "b@dead.test")?;
    let begun = Instant::now();
    hand_over(relay, Extent { messages: 100, clients: 5, size: 1024 }, "b@sink.test")?;
    ensure!(until::holds(LIMIT, || sink.messages() >= 100), "{}", demo.tail("relay"));
    Ok(begun.elapsed())
}
