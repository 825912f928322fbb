//! An SMTP server on standard input and output, without a runtime.
//!
//! ```text
//! cargo run -p merpati-session --example stdio -- [DIRECTORY]
//! ```
//!
//! Messages become `DIRECTORY/1.eml` and so on; without a directory they are dropped, and only
//! told of on standard error. Whoever asks may send to anybody at `localhost`. Under `inetd` or
//! `systemd`'s sockets it serves TCP.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the machine is pure, and this is the world around it"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Instant;

use merpati_session::server::{
    Action, Channel, Question, ServerConfig, Session, Start, Verdict, XclientRight,
};
use merpati_types::{ForwardPath, Host, Rejection, Status, Timestamp};

fn main() -> ExitCode {
    let store = Store {
        directory: std::env::args_os().nth(1).map(PathBuf::from),
        count: 0,
        message: Message::None,
    };
    match serve(store) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The driver: does what the machine says.
fn serve(mut store: Store) -> io::Result<()> {
    let time = Timestamp::from_millis(0);
    let start = Start { channel: Channel::Plain, xclient: XclientRight::Refused, time };
    let mut session = Session::new(Instant::now(), Arc::new(ServerConfig::default()), start);
    let input = read_in_background();
    let mut output = io::stdout().lock();
    loop {
        match session.poll_action() {
            Action::Write(bytes) => output.write_all(&bytes)?,
            Action::Ask(question) => {
                let verdict = answer(question, &mut store);
                session.answer(Instant::now(), verdict);
            }
            Action::Body(bytes) => {
                if let Err(error) = store.write(&bytes) {
                    session.handle_body_error(failed(&error));
                }
            }
            Action::Aborted => store.abort(),
            Action::Wait { until } => {
                output.flush()?;
                let patience = until.saturating_duration_since(Instant::now());
                match input.recv_timeout(patience) {
                    Ok(bytes) => session.handle_bytes(Instant::now(), &bytes),
                    Err(RecvTimeoutError::Timeout) => session.handle_timeout(Instant::now()),
                    Err(RecvTimeoutError::Disconnected) => session.handle_eof(),
                }
            }
            Action::Close => return output.flush(),
            Action::StartTls => unreachable!("STARTTLS is not offered"),
            Action::Blocked => unreachable!("every question is answered at once"),
        }
    }
}

/// Standard input, which cannot be read with a time limit, as a channel, which can. It holds one
/// piece: a peer that sends faster than we work has to wait.
fn read_in_background() -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = input.read(&mut buffer) {
            if sender.send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The policy.
fn answer(question: Question, store: &mut Store) -> Verdict {
    match question {
        Question::Rcpt { path: ForwardPath::Postmaster, .. } => Verdict::Accept,
        Question::Rcpt { path: ForwardPath::Mailbox(mailbox), .. } => match mailbox.host() {
            Host::Domain(domain) if domain.as_ascii() == "localhost" => Verdict::Accept,
            _ => Verdict::Reject(Rejection::permanent(Status::POLICY, "only localhost is served")),
        },
        Question::Data => {
            store.begin().map_or_else(|e| Verdict::Reject(failed(&e)), |()| Verdict::Accept)
        }
        Question::Message { .. } => match store.commit() {
            Ok(name) => Verdict::AcceptWith(format!("kept as {name}")),
            Err(error) => Verdict::Reject(failed(&error)),
        },
        _ => Verdict::Accept,
    }
}

/// The details are for us, not for the peer.
fn failed(error: &io::Error) -> Rejection {
    eprintln!("{error}");
    Rejection::transient(Status::SYSTEM, "cannot store the message, try again later")
}

/// Where messages go.
struct Store {
    directory: Option<PathBuf>,
    count: u64,
    message: Message,
}

enum Message {
    None,
    /// Only counted.
    Dropped {
        octets: u64,
    },
    File {
        file: File,
        path: PathBuf,
    },
}

impl Store {
    fn begin(&mut self) -> io::Result<()> {
        self.count += 1;
        let Some(directory) = &self.directory else {
            self.message = Message::Dropped { octets: 0 };
            return Ok(());
        };
        loop {
            let path = directory.join(format!("{}.tmp", self.count));
            // Another server may write here too, or have written.
            match File::create_new(&path) {
                Ok(file) if !path.with_extension("eml").exists() => {
                    self.message = Message::File { file, path };
                    return Ok(());
                }
                Ok(_) => std::fs::remove_file(&path)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            self.count += 1;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.message {
            Message::None => Ok(()),
            Message::Dropped { octets } => {
                *octets += bytes.len() as u64;
                Ok(())
            }
            Message::File { file, .. } => file.write_all(bytes),
        }
    }

    /// What was accepted is on the disk before anybody hears so, and so is its name.
    fn commit(&mut self) -> io::Result<String> {
        let name = format!("{}.eml", self.count);
        match &self.message {
            Message::None => return Err(io::Error::other("there is no message")),
            Message::Dropped { octets } => eprintln!("{name}: {octets} octets dropped"),
            Message::File { file, path } => {
                file.sync_all()?;
                let kept = path.with_extension("eml");
                // Unlike a rename, a link replaces nothing.
                std::fs::hard_link(path, &kept)?;
                std::fs::remove_file(path)?;
                if let Some(directory) = &self.directory {
                    File::open(directory)?.sync_all()?;
                }
                eprintln!("{}", kept.display());
            }
        }
        self.message = Message::None;
        Ok(name)
    }

    fn abort(&mut self) {
        if let Message::File { path, .. } = std::mem::replace(&mut self.message, Message::None)
            && let Err(error) = std::fs::remove_file(&path)
        {
            eprintln!("{}: {error}", path.display());
        }
    }
}
