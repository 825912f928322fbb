//! A server that takes everything and keeps nothing.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Write as _, stdout};
use std::rc::Rc;
use std::time::Instant;

use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use super::SinkArgs;

/// The longest command line.
const MOST_LINE: usize = 64 << 10;
/// How far into a message its Message-ID is looked for.
const HEAD: usize = 8 << 10;
const END: &[u8] = b"\r\n.\r\n";

/// What has come so far.
struct Counts {
    messages: u64,
    octets: u64,
    /// Hashes of the Message-IDs that have come.
    seen: HashSet<u64>,
    repeated: u64,
    connections: u64,
    begun: Option<Instant>,
    every: Option<u64>,
    json: bool,
}

pub(super) async fn run(args: &SinkArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    if args.json {
        writeln!(stdout(), "{}", serde_json::json!({ "listening": address.to_string() }))?;
    } else {
        writeln!(stdout(), "listening on {address}")?;
    }
    stdout().flush()?;
    let counts = Rc::new(RefCell::new(Counts {
        messages: 0,
        octets: 0,
        seen: HashSet::new(),
        repeated: 0,
        connections: 0,
        begun: None,
        every: args.every,
        json: args.json,
    }));
    let reply: Option<Rc<str>> = args.reply.as_ref().map(|reply| format!("{reply}\r\n").into());
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    LocalSet::new()
        .run_until(async {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted?;
                        counts.borrow_mut().connections += 1;
                        let (counts, reply) = (counts.clone(), reply.clone());
                        tokio::task::spawn_local(async move {
                            // A peer that goes away is its own affair.
                            let _ = serve(stream, &counts, reply.as_deref()).await;
                        });
                    }
                    _ = interrupt.recv() => break,
                    _ = terminate.recv() => break,
                }
            }
            counts.borrow().tell();
            Ok(())
        })
        .await
}

impl Counts {
    fn take(&mut self, head: &[u8], octets: u64) {
        self.begun.get_or_insert_with(Instant::now);
        self.messages += 1;
        self.octets += octets;
        if let Some(id) = message_id(head) {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            if !self.seen.insert(hasher.finish()) {
                self.repeated += 1;
            }
        }
        if self.every.is_some_and(|every| self.messages.is_multiple_of(every)) {
            self.tell();
        }
    }

    fn tell(&self) {
        let Self { messages, octets, repeated, connections, .. } = self;
        let seconds = self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        if self.json {
            let counts = serde_json::json!({
                "messages": messages, "octets": octets, "repeated": repeated,
                "connections": connections, "seconds": seconds,
            });
            // Whoever listened may have gone.
            let _ = writeln!(stdout(), "{counts}");
        } else {
            let text = format!("{messages} messages, {octets} octets, {repeated} of them repeated");
            let _ = writeln!(stdout(), "{text}");
        }
        let _ = stdout().flush();
    }
}

fn message_id(head: &[u8]) -> Option<&[u8]> {
    let field = b"\nMessage-ID:";
    let at = match head.strip_prefix(&field[1..]) {
        Some(_) => field.len() - 1,
        None => memmem::find(head, field)? + field.len(),
    };
    let line = &head[at..];
    Some(&line[..memchr::memchr(b'\n', line)?])
}

async fn serve(
    mut stream: TcpStream,
    counts: &RefCell<Counts>,
    reply: Option<&str>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    let mut input = BytesMut::with_capacity(32 << 10);
    let mut output = Vec::with_capacity(256);
    loop {
        while let Some(line) = next_line(&mut input) {
            let verb: [u8; 4] =
                std::array::from_fn(|i| line.get(i).copied().unwrap_or(b' ').to_ascii_uppercase());
            match &verb {
                b"EHLO" => output.extend_from_slice(
                    b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                      250-SIZE 0\r\n250 ENHANCEDSTATUSCODES\r\n",
                ),
                b"DATA" => {
                    output.extend_from_slice(b"354 go on\r\n");
                    stream.write_all(&output).await?;
                    output.clear();
                    let (head, octets) = read_message(&mut stream, &mut input).await?;
                    counts.borrow_mut().take(&head, octets);
                    match reply {
                        Some(reply) => output.extend_from_slice(reply.as_bytes()),
                        None => {
                            let number = counts.borrow().messages;
                            output.extend(format!("250 2.0.0 taken as {number}\r\n").bytes());
                        }
                    }
                }
                b"QUIT" => {
                    output.extend_from_slice(b"221 2.0.0 bye\r\n");
                    return stream.write_all(&output).await;
                }
                b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" => {
                    output.extend_from_slice(b"250 2.0.0 ok\r\n");
                }
                _ => output.extend_from_slice(b"500 5.5.1 what?\r\n"),
            }
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if input.len() > MOST_LINE || stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn next_line(input: &mut BytesMut) -> Option<BytesMut> {
    let end = memchr::memchr(b'\n', input)?;
    Some(input.split_to(end + 1))
}

/// Reads up to the final dot; answers the beginning of the message and its size.
async fn read_message(
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> std::io::Result<(Vec<u8>, u64)> {
    let mut head = Vec::new();
    let mut octets = 0;
    if input.is_empty() && stream.read_buf(input).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    loop {
        if let Some(end) = memmem::find(input, END) {
            let room = HEAD.saturating_sub(head.len());
            head.extend_from_slice(&input[..end.min(room)]);
            octets += end as u64 + 2;
            input.advance(end + END.len());
            return Ok((head, octets));
        }
        if octets == 0 && input.starts_with(&END[2..]) {
            input.advance(END.len() - 2);
            return Ok((head, 0));
        }
        // The end may be cut in two.
        let whole = input.len().saturating_sub(END.len() - 1);
        let room = HEAD.saturating_sub(head.len());
        head.extend_from_slice(&input[..whole.min(room)]);
        octets += whole as u64;
        input.advance(whole);
        input.reserve(32 << 10);
        if stream.read_buf(input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
