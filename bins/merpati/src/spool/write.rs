//! Where exported messages go: files, a Maildir, an mbox.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use merpati_plugin::spool::NewMessage;
use merpati_types::MessageId;
use serde_json::Value;

use super::export::Form;

/// Octets of a line that are written before its end is seen.
const LINE: usize = 64 << 10;

/// What is being written.
pub(super) struct Target {
    form: Form,
    path: PathBuf,
    /// The one file of an mbox, and its envelopes.
    mbox: Option<(BufWriter<File>, BufWriter<File>)>,
}

/// One message on its way.
pub(super) struct Sink<'a> {
    target: &'a mut Target,
    id: MessageId,
    part: Part,
    lines: Lines,
}

enum Part {
    /// A file of its own: where it is written, and where it belongs.
    File { file: BufWriter<File>, from: PathBuf, to: PathBuf },
    /// Appended, from this octet on.
    Mbox { start: u64 },
}

impl Target {
    /// Makes it; there must be nothing yet.
    pub(super) fn create(form: Form, path: &Path) -> io::Result<Self> {
        let directory = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        let mut mbox = None;
        match form {
            Form::Eml => directory(path)?,
            Form::Maildir => {
                directory(path)?;
                for name in ["cur", "new", "tmp", "envelopes"] {
                    directory(&path.join(name))?;
                }
            }
            Form::Mbox => {
                let mut envelopes = path.as_os_str().to_owned();
                envelopes.push(".envelopes");
                mbox = Some((file(path)?, file(Path::new(&envelopes))?));
            }
        }
        Ok(Self { form, path: path.to_owned(), mbox })
    }

    pub(super) fn begin(&mut self, id: MessageId, message: &NewMessage) -> io::Result<Sink<'_>> {
        let seconds = message.arrived.as_millis().div_euclid(1_000);
        let part = match (self.form, &mut self.mbox) {
            (Form::Maildir, _) => {
                let name = format!("{seconds}.{id}.merpati");
                let from = self.path.join("tmp").join(&name);
                Part::File { file: file(&from)?, from, to: self.path.join("new").join(name) }
            }
            (Form::Mbox, Some((mbox, _))) => {
                let start = mbox.stream_position()?;
                let sender = message.envelope.sender.mailbox().map(ToString::to_string);
                // Whoever reads this takes the sender to end at the first space.
                let sender = sender.filter(|sender| !sender.contains(char::is_whitespace));
                let sender = sender.unwrap_or_else(|| "MAILER-DAEMON".to_owned());
                writeln!(mbox, "From {sender} {}", asctime(&message.arrived.to_rfc5322()))?;
                Part::Mbox { start }
            }
            (Form::Eml | Form::Mbox, _) => {
                let from = self.path.join(format!("{id}.eml.part"));
                Part::File { file: file(&from)?, from, to: self.path.join(format!("{id}.eml")) }
            }
        };
        let lines = Lines { form: self.form, line: Vec::new(), begins: true };
        Ok(Sink { target: self, id, part, lines })
    }

    /// Has all of it on the disk.
    pub(super) fn finish(self) -> io::Result<()> {
        if let Some((mut mbox, mut envelopes)) = self.mbox {
            for file in [&mut mbox, &mut envelopes] {
                file.flush()?;
                file.get_ref().sync_all()?;
            }
        }
        rustix::fs::syncfs(File::open(&self.path)?)?;
        Ok(())
    }
}

impl Sink<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let out: &mut dyn Write = match (&mut self.part, &mut self.target.mbox) {
            (Part::File { file, .. }, _) => file,
            (Part::Mbox { .. }, Some((mbox, _))) => mbox,
            (Part::Mbox { .. }, None) => return Ok(()),
        };
        self.lines.write(bytes, out)
    }

    /// Puts the message where it belongs, and what is known of it beside.
    pub(super) fn finish(mut self, about: &Value) -> io::Result<()> {
        let id = self.id;
        match (self.part, &mut self.target.mbox) {
            (Part::File { mut file, from, to }, _) => {
                self.lines.end(&mut file)?;
                file.flush()?;
                let path = &self.target.path;
                let beside = match self.target.form {
                    Form::Maildir => path.join("envelopes").join(format!("{id}.json")),
                    Form::Eml | Form::Mbox => path.join(format!("{id}.json")),
                };
                let mut envelope = self::file(&beside)?;
                serde_json::to_writer_pretty(&mut envelope, about)?;
                writeln!(envelope)?;
                envelope.flush()?;
                fs::rename(from, to)
            }
            (Part::Mbox { .. }, Some((mbox, envelopes))) => {
                self.lines.end(mbox)?;
                writeln!(mbox)?;
                serde_json::to_writer(&mut *envelopes, about)?;
                writeln!(envelopes)
            }
            (Part::Mbox { .. }, None) => Ok(()),
        }
    }

    /// Leaves nothing of it.
    pub(super) fn abandon(self) -> io::Result<()> {
        match (self.part, &mut self.target.mbox) {
            (Part::File { from, .. }, _) => fs::remove_file(from),
            (Part::Mbox { start }, Some((mbox, _))) => {
                mbox.flush()?;
                mbox.get_ref().set_len(start)?;
                mbox.seek(io::SeekFrom::Start(start)).map(drop)
            }
            (Part::Mbox { .. }, None) => Ok(()),
        }
    }
}

/// Lines as the form has them: CRLF becomes LF in a Maildir and an mbox, where `From ` at the
/// beginning of a line is quoted besides.
struct Lines {
    form: Form,
    line: Vec<u8>,
    /// Whether `line` is the beginning of one.
    begins: bool,
}

impl Lines {
    fn write(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if self.form == Form::Eml {
            return out.write_all(bytes);
        }
        for piece in bytes.split_inclusive(|&octet| octet == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") || self.line.len() > LINE {
                self.flush(out)?;
            }
        }
        Ok(())
    }

    /// Writes what there is of a line; a CR at its end waits for what follows.
    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.form == Form::Mbox && self.begins {
            let arrows = self.line.iter().take_while(|&&octet| octet == b'>').count();
            if self.line[arrows..].starts_with(b"From ") {
                out.write_all(b">")?;
            }
        }
        self.begins = self.line.ends_with(b"\n");
        if let Some(line) = self.line.strip_suffix(b"\r\n") {
            out.write_all(line)?;
            out.write_all(b"\n")?;
            self.line.clear();
        } else if let Some(line) = self.line.strip_suffix(b"\r") {
            out.write_all(line)?;
            self.line = b"\r".to_vec();
        } else {
            out.write_all(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }

    /// Writes the rest; the last line of an mbox's message has an end.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.line.is_empty() {
            self.flush(out)?;
            out.write_all(&std::mem::take(&mut self.line))?;
        }
        if self.form == Form::Mbox && !self.begins {
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// A new file that only its owner can read.
fn file(path: &Path) -> io::Result<BufWriter<File>> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(BufWriter::new)
}

/// `Mon Nov 23 08:00:00 2026` from `Mon, 23 Nov 2026 08:00:00 +0000`.
fn asctime(rfc5322: &str) -> String {
    let words: Vec<&str> = rfc5322.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        [weekday, day, month, year, time, ..] => {
            format!("{weekday} {month} {day:>2} {time} {year}")
        }
        _ => rfc5322.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_alike_however_they_come_in() {
        let check = |form: Form, input: &str, expected: &str| {
            for size in [1, 2, 3, 7, 1_000] {
                let (mut lines, mut out) =
                    (Lines { form, line: Vec::new(), begins: true }, Vec::new());
                input.as_bytes().chunks(size).for_each(|p| lines.write(p, &mut out).unwrap());
                lines.end(&mut out).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{form:?} {size}");
            }
        };
        let input = "From a\r\n>From b\r\n>> From c\r\n\rFrom d\r\r\nlast\r";
        check(Form::Eml, input, input);
        check(Form::Maildir, input, "From a\n>From b\n>> From c\n\rFrom d\r\nlast\r");
        check(Form::Mbox, input, ">From a\n>>From b\n>> From c\n\rFrom d\r\nlast\r\n");
        check(Form::Mbox, "", "");
        // Longer than what is kept of a line.
        let long = "x".repeat(3 * LINE);
        check(Form::Maildir, &format!("{long}\r\n{long}"), &format!("{long}\n{long}"));
        assert_eq!(asctime("Mon, 3 Nov 2026 08:00:00 +0000"), "Mon Nov  3 08:00:00 2026");
    }
}
