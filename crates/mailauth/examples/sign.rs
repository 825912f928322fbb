//! Signs a message: `sign DOMAIN SELECTOR KEY_FILE MESSAGE`.
//!
//! The message, with CRLF line ends, comes out again with its `DKIM-Signature` before it; it is
//! read in pieces and never held as a whole. What the domain has to publish goes to standard
//! error.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use merpati_mailauth::{DkimKey, DkimSigner, SigningRules};
use merpati_types::{Domain, HeaderSection, Timestamp};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sign: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [domain, selector, key_file, message] = &arguments[..] else {
        return Err("use: sign DOMAIN SELECTOR KEY_FILE MESSAGE".into());
    };
    let key = DkimKey::open(selector.parse()?, Path::new(key_file))?;
    eprintln!("{}._domainkey.{domain} TXT {}", key.selector(), key.record());
    let signer = DkimSigner::new(Domain::parse(domain)?, key, SigningRules::default());

    let mut message = BufReader::with_capacity(64 * 1024, File::open(message)?);
    let mut beginning = Vec::new();
    (&mut message).take(HeaderSection::OCTET_LIMIT as u64 + 1).read_to_end(&mut beginning)?;
    let header = HeaderSection::read(&Bytes::from(beginning))?;

    message.seek(SeekFrom::Start(header.raw().len() as u64))?;
    if message.fill_buf()?.starts_with(b"\r\n") {
        message.consume(2);
    }
    let mut body = signer.hash_body();
    loop {
        let piece = message.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        body.write(piece);
        let read = piece.len();
        message.consume(read);
    }

    let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let now = Timestamp::from_millis(i64::try_from(millis)?);
    let mut out = io::stdout().lock();
    out.write_all(&signer.sign(&header, &body.finish()?, now)?)?;
    message.rewind()?;
    io::copy(&mut message, &mut out)?;
    Ok(())
}
