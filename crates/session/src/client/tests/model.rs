//! The client against a server that follows the RFCs, in every way that two transactions over one
//! connection can go.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::super::{
    Channel, Client, ClientAction, ClientConfig, Event, Outcome, Outgoing, Protocol, Stage,
};
use super::outgoing;

const BODY: &[u8] = b".a\r\n.\r\nb\r\n";
const RECIPIENTS: [&str; 2] = ["b@mx.test", "c@mx.test"];

/// How a transaction goes.
#[derive(Clone, Copy, Debug)]
struct Way {
    mail: bool,
    rcpt: [bool; 2],
    data: bool,
    /// To the message; over LMTP for each recipient, else the first counts.
    message: [bool; 2],
    /// To DATA when everybody was refused: 354 instead of 503 (RFC 2920 §3.1).
    goes_on: bool,
}

impl Way {
    fn all() -> impl Iterator<Item = Self> {
        (0..1_u32 << 7).map(|bits| {
            let bit = |place: u32| bits >> place & 1 == 1;
            Self {
                mail: bit(0),
                rcpt: [bit(1), bit(2)],
                data: bit(3),
                message: [bit(4), bit(5)],
                goes_on: bit(6),
            }
        })
    }

    /// What each recipient is to be told, as [`told`] writes it.
    fn expected(&self, number: usize, setting: Setting) -> Vec<String> {
        let one = |recipient: usize| {
            let (stage, yes, place) = match () {
                () if !self.mail => (Stage::Mail, false, 0),
                () if !self.rcpt[recipient] => (Stage::Rcpt, false, recipient),
                () if !setting.chunking && !self.data => (Stage::Data, false, 0),
                () => {
                    let place = if setting.lmtp { recipient } else { 0 };
                    (Stage::Message, self.message[place], place)
                }
            };
            format!("{} {number} {stage:?} {place}", if yes { 250 } else { 550 })
        };
        vec![one(0), one(1)]
    }
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    lmtp: bool,
    pipelining: bool,
    chunking: bool,
    /// Whether a chunk goes out before the replies to its recipients are here.
    ahead: bool,
    /// How many octets of replies come at once.
    piece: usize,
}

impl Setting {
    fn all() -> impl Iterator<Item = Self> {
        (0..1_u32 << 5).map(|bits| {
            let bit = |place: u32| bits >> place & 1 == 1;
            Self {
                lmtp: bit(0),
                pipelining: bit(1),
                chunking: bit(2),
                ahead: bit(3),
                piece: if bit(4) { 1 } else { usize::MAX },
            }
        })
    }

    fn config(self) -> ClientConfig {
        ClientConfig {
            protocol: if self.lmtp { Protocol::Lmtp } else { Protocol::Smtp },
            hello: "client.test".to_owned(),
            ahead: if self.ahead { u64::MAX } else { 0 },
            ..ClientConfig::default()
        }
    }
}

/// What the server reads next.
enum Reading {
    Commands,
    Data,
    Chunk(usize),
}

struct Server {
    setting: Setting,
    ways: [Way; 2],
    /// Transactions begun so far.
    number: usize,
    mail: bool,
    taken: Vec<usize>,
    asked: usize,
    reading: Reading,
    input: Vec<u8>,
    replies: String,
    kept: Vec<Vec<u8>>,
}

impl Server {
    fn new(setting: Setting, ways: [Way; 2]) -> Self {
        Self {
            setting,
            ways,
            number: 0,
            mail: false,
            taken: Vec::new(),
            asked: 0,
            reading: Reading::Commands,
            input: Vec::new(),
            replies: "220 mx.test\r\n".to_owned(),
            kept: Vec::new(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            let end = match self.reading {
                Reading::Commands => position(&self.input, b"\r\n").map(|at| at + 2),
                Reading::Data if self.input.starts_with(b".\r\n") => Some(3),
                Reading::Data => position(&self.input, b"\r\n.\r\n").map(|at| at + 5),
                Reading::Chunk(size) => Some(size).filter(|&size| size <= self.input.len()),
            };
            let Some(end) = end else { return };
            let taken: Vec<_> = self.input.drain(..end).collect();
            match self.reading {
                Reading::Commands => self.obey(std::str::from_utf8(&taken).unwrap().trim_end()),
                Reading::Data => {
                    let text = String::from_utf8(taken).unwrap();
                    let text = text.strip_suffix(".\r\n").unwrap();
                    let plain = text.strip_prefix('.').unwrap_or(text).replace("\r\n.", "\r\n");
                    self.finish(plain.into_bytes());
                }
                Reading::Chunk(_) => self.finish(taken),
            }
        }
    }

    fn obey(&mut self, line: &str) {
        let word = line.split([' ', ':']).next().unwrap();
        match word {
            "EHLO" | "LHLO" => {
                self.replies += "250-mx.test\r\n";
                for (offered, keyword) in
                    [(self.setting.pipelining, "PIPELINING"), (self.setting.chunking, "CHUNKING")]
                {
                    if offered {
                        self.replies += &format!("250-{keyword}\r\n");
                    }
                }
                self.replies += "250 HELP\r\n";
            }
            "MAIL" => {
                assert!(!self.mail, "the transaction before is still open");
                self.number += 1;
                (self.mail, self.asked) = (self.way().mail, 0);
                self.taken.clear();
                self.say(self.mail, Stage::Mail, 0);
            }
            "RCPT" => {
                let place = self.asked;
                self.asked += 1;
                let yes = self.mail && self.way().rcpt[place];
                if yes {
                    self.taken.push(place);
                }
                self.say(yes, Stage::Rcpt, place);
            }
            "DATA" if self.taken.is_empty() => {
                // RFC 2033 §4.2: over LMTP it must fail.
                if self.way().goes_on && self.mail && !self.setting.lmtp {
                    self.replies += "354 go on\r\n";
                    self.reading = Reading::Data;
                } else {
                    self.replies += "503 nobody\r\n";
                }
            }
            "DATA" if self.way().data => {
                self.replies += "354 go on\r\n";
                self.reading = Reading::Data;
            }
            "DATA" => self.say(false, Stage::Data, 0),
            "BDAT" => {
                let size = line.split(' ').nth(1).unwrap().parse().unwrap();
                assert!(line.ends_with(" LAST"), "{line}");
                self.reading = Reading::Chunk(size);
            }
            "RSET" => {
                self.mail = false;
                self.replies += "250 flushed\r\n";
            }
            "QUIT" => self.replies += "221 bye\r\n",
            _ => panic!("{line:?} is no command"),
        }
    }

    /// A message has come to its end.
    fn finish(&mut self, message: Vec<u8>) {
        self.reading = Reading::Commands;
        if self.taken.is_empty() {
            // RFC 3030 §2: the transaction stays as it is.
            self.replies += "503 nobody\r\n";
            return;
        }
        let way = self.way();
        self.mail = false;
        let about = if self.setting.lmtp { self.taken.clone() } else { vec![0] };
        for place in about {
            self.say(way.message[place], Stage::Message, place);
        }
        self.kept.push(message);
    }

    fn way(&self) -> Way {
        self.ways[self.number - 1]
    }

    fn say(&mut self, yes: bool, stage: Stage, place: usize) {
        let code = if yes { 250 } else { 550 };
        self.replies += &format!("{code} {} {stage:?} {place}\r\n", self.number);
    }
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The server's own words about each recipient.
fn told(outcomes: &[Outcome]) -> Vec<String> {
    let one = |outcome: &Outcome| match outcome {
        Outcome::Accepted(reply) | Outcome::Refused { reply, .. } => {
            format!("{} {}", reply.code(), reply.lines().concat())
        }
    };
    outcomes.iter().map(one).collect()
}

fn converse(setting: Setting, ways: [Way; 2]) {
    let context = || format!("{setting:?}\n{ways:?}");
    let now = Instant::now();
    let mut client = Client::new(now, Arc::new(setting.config()), Channel::Plain);
    let mut server = Server::new(setting, ways);
    let mut finished = Vec::new();
    let mut begun = 0;
    let mut body = None;
    loop {
        match client.poll_action() {
            ClientAction::Write(bytes) => server.hear(&bytes),
            ClientAction::NeedBody => match body.take() {
                Some(bytes) => client.body(now, bytes),
                None => client.body_end(now),
            },
            ClientAction::Event(Event::Finished(outcomes)) => finished.push(told(&outcomes)),
            ClientAction::Event(Event::Lost { why, .. }) => panic!("{why}\n{}", context()),
            ClientAction::Idle if begun < 2 => {
                begun += 1;
                body = Some(Bytes::from_static(BODY));
                let message = Outgoing { size: BODY.len() as u64, ..outgoing(&RECIPIENTS, BODY) };
                client.begin(now, message).unwrap();
            }
            ClientAction::Idle => client.quit(now),
            ClientAction::Wait { .. } => {
                let replies = std::mem::take(&mut server.replies);
                assert!(!replies.is_empty(), "both wait\n{}", context());
                for piece in replies.as_bytes().chunks(setting.piece) {
                    client.handle_bytes(now, piece);
                }
            }
            ClientAction::Close => break,
            ClientAction::Event(_) | ClientAction::StartTls => {}
        }
    }
    let expected: Vec<_> = (0..2).map(|place| ways[place].expected(place + 1, setting)).collect();
    assert_eq!(finished, expected, "{}", context());
    for kept in server.kept {
        assert_eq!(kept, BODY, "{}", context());
    }
}

/// A plain transaction follows: it shows whether the one before has left a reply behind.
#[test]
fn every_way_of_a_transaction_ends_with_the_server_s_own_words() {
    let plain =
        Way { mail: true, rcpt: [true; 2], data: true, message: [true, false], goes_on: false };
    for setting in Setting::all() {
        for way in Way::all() {
            converse(setting, [way, plain]);
        }
    }
}
