//! What other implementations of DKIM say to our signatures.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use merpati_mailauth::{Canonicalization, DkimKey, DkimSigner, SigningRules};
use merpati_types::{Domain, HeaderSection, Timestamp};
use tempfile::TempDir;

use crate::everything;

/// A directory with keys that OpenSSL has made, and with signed messages.
struct Bench {
    dir: TempDir,
    /// The files, each with how many signatures it has and whether they hold.
    messages: Vec<(String, usize, bool)>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), messages: Vec::new() };
        bench.make_key("rsa1", &["genrsa", "-traditional", "-out", "FILE", "2048"]);
        bench.make_key("rsa8", &["genrsa", "-out", "FILE", "4096"]);
        bench.make_key("ed", &["genpkey", "-algorithm", "ed25519", "-out", "FILE"]);
        bench
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn make_key(&self, name: &str, arguments: &[&str]) {
        let file = self.path().join(format!("{name}.pem"));
        let mut command = Command::new("openssl");
        for argument in arguments {
            match *argument {
                "FILE" => command.arg(&file),
                argument => command.arg(argument),
            };
        }
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(self.path().join(format!("{name}.txt")), self.key(name).record()).unwrap();
    }

    fn key(&self, name: &str) -> DkimKey {
        DkimKey::open(name.parse().unwrap(), &self.path().join(format!("{name}.pem"))).unwrap()
    }

    fn signer(&self, header: Canonicalization, body: Canonicalization) -> DkimSigner {
        let rules = SigningRules {
            header_canonicalization: header,
            body_canonicalization: body,
            expire: Some(std::time::Duration::from_secs(7 * 86_400)),
            ..SigningRules::default()
        };
        let domain = Domain::parse("sender.test").unwrap();
        DkimSigner::new(domain, self.key("rsa1"), rules)
            .with_key(self.key("rsa8"))
            .with_key(self.key("ed"))
    }

    /// Signs a message and writes it; and once more with one octet changed.
    fn add(&mut self, signer: &DkimSigner, message: &[u8]) {
        let message = Bytes::copy_from_slice(message);
        let header = HeaderSection::read(&message).unwrap();
        let body = message.slice(header.raw().len()..);
        let body = body.strip_prefix(b"\r\n").unwrap_or(&body);
        let mut hasher = signer.hash_body();
        body.chunks(4_096).for_each(|piece| hasher.write(piece));
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = Timestamp::from_millis(i64::try_from(millis).unwrap());
        let fields = signer.sign(&header, &hasher.finish().unwrap(), now).unwrap();
        let mut whole = [&fields[..], &message].concat();
        // With DATA a last line gets its end on the way.
        if !whole.ends_with(b"\r\n") {
            whole.extend(b"\r\n");
        }
        self.write(&whole, signer.keys().len(), true);
        let author = message.iter().position(|&octet| octet == b'@').unwrap();
        whole[fields.len() + author] ^= 1;
        self.write(&whole, signer.keys().len(), false);
    }

    fn write(&mut self, message: &[u8], signatures: usize, hold: bool) {
        let name = format!("{}.eml", self.messages.len());
        fs::write(self.path().join(&name), message).unwrap();
        self.messages.push((name, signatures, hold));
    }

    /// Runs a program that gets the directory, the number of messages and a list of selectors, and
    /// prints `FILE SELECTOR pass` or `FILE SELECTOR fail` for every signature of these.
    fn check(&self, verifier: &str, mut command: Command, selectors: &[&str]) {
        command.arg(self.path()).arg(self.messages.len().to_string()).args(selectors);
        let output = command.output().expect("the verifier is installed");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verifier}: {complaint}");
        let mut verdicts: Vec<_> = said.lines().collect();
        verdicts.sort_unstable();
        let mut expected = Vec::new();
        for (file, signatures, hold) in &self.messages {
            assert!(*signatures >= selectors.len());
            let word = if *hold { "pass" } else { "fail" };
            expected.extend(selectors.iter().map(|selector| format!("{file} {selector} {word}")));
        }
        expected.sort_unstable();
        for (verdict, expected) in verdicts.iter().zip(&expected) {
            let file = expected.split(' ').next().unwrap();
            let message = fs::read(self.path().join(file)).unwrap();
            let message = &message[..message.len().min(4_000)];
            assert_eq!(verdict, expected, "{verifier}, {complaint}:\n{}", message.escape_ascii());
        }
        assert_eq!(verdicts.len(), expected.len(), "{verifier}: {complaint}");
    }
}

/// Messages of which verifiers and signers might think differently.
fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = [
        "From: alice@sender.test\r\nTo: bob@receiver.test\r\nSubject: Hello\r\n\r\nHello, Bob.\r\n",
        // White space at the end of a body, which the library that signs takes for text.
        "From: a@sender.test\r\n\r\ntext\r\n \t\r\n",
        "From: a@sender.test\r\n\r\ntext \r\n\r\n\t\r\n \r\n\r\n",
        "From: a@sender.test\r\n\r\n \r\n",
        "From: a@sender.test\r\n\r\n\t \r\n \r\n\r\n",
        "From: a@sender.test\r\n\r\n \r\n\r\n  text\t\ttext \r\n \r\n.\r\n",
        "From: a@sender.test\r\n\r\n",
        "From: a@sender.test\r\n\r\n\r\n\r\n",
        "From: a@sender.test\r\n\r\nno line end",
        "From: a@sender.test\r\n\r\nspace, no line end \t",
        "From: a@sender.test\r\nFrom: b@sender.test\r\nTo: c@d\r\nTo: e@f\r\n\r\ntwo of each\r\n",
        "From: J\u{fc}rgen <j\u{fc}rgen@b\u{fc}cher.test>\r\nSubject: \u{1f54a}\r\n\r\n\u{e9}\r\n",
        "fROM:\r\n\t a@sender.test \r\nTo:\r\nSUBJECT:  folded\r\n  and \t folded\r\n\r\nx\r\n",
        "From: a@sender.test\r\nSubject: form\x0cfeed\r\n\r\nx\x0c \x0c\r\n",
        "From: a@sender.test\r\nX-B: b=1; bh=2\r\nReferences: <b=c;d>\r\n\r\nx\r\n",
    ]
    .map(Vec::from)
    .into();
    messages.push(b"From: a@sender.test\r\nSubject: caf\xe9 \xff\r\n\r\n\xe9\xe8\xff\r\n".into());
    let recipients = "somebody@receiver.test,\r\n ".repeat(3_000);
    messages.push(format!("From: a@sender.test\r\nTo: {recipients}z@y\r\n\r\nx\r\n").into());
    messages.push(format!("From: a@b\r\nSubject: {}\r\n\r\nx\r\n", "y".repeat(50_000)).into());
    messages.push(format!("From: a@b\r\n{}\r\nx\r\n", "Cc: c@d\r\n".repeat(60)).into());
    messages
}

/// Everything in the usual form; with `all`, in all forms, and a large message.
fn bench() -> Bench {
    use Canonicalization::{Relaxed, Simple};
    let mut bench = Bench::new();
    let usual = bench.signer(Relaxed, Relaxed);
    messages().iter().for_each(|message| bench.add(&usual, message));
    if everything() {
        for (header, body) in [(Simple, Simple), (Relaxed, Simple), (Simple, Relaxed)] {
            let signer = bench.signer(header, body);
            messages().iter().for_each(|message| bench.add(&signer, message));
        }
        let lines = "A line of a large body,  with spaces. \r\n".repeat(30 * 1024 * 1024 / 40);
        let large = format!("From: a@sender.test\r\nSubject: large\r\n\r\n{lines} \r\n");
        bench.add(&usual, large.as_bytes());
    }
    bench
}

#[test]
fn dkimpy_verifies_rsa_and_ed25519() {
    const PROGRAM: &str = "
import dkim, sys
directory, count, *selectors = sys.argv[1:]
def record(name, timeout=5):
    selector, rest = name.decode().split('.', 1)
    assert rest == '_domainkey.sender.test.', name
    return open(f'{directory}/{selector}.txt', 'rb').read()
for number in range(int(count)):
    message = open(f'{directory}/{number}.eml', 'rb').read()
    for place, selector in enumerate(selectors):
        try:
            verdict = dkim.DKIM(message).verify(idx=place, dnsfunc=record)
        except dkim.DKIMException as error:
            print(number, selector, repr(error), file=sys.stderr)
            verdict = False
        print(f'{number}.eml', selector, 'pass' if verdict else 'fail')
";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PROGRAM]);
    bench().check("dkimpy", command, &["rsa1", "rsa8", "ed"]);
}

#[test]
fn mail_dkim_verifies_rsa() {
    // Debian's version does not know Ed25519 yet.
    const PROGRAM: &str = r#"
use strict;
use warnings;
use Mail::DKIM::Verifier;
use Net::DNS;

my ($directory, $count, @selectors) = @ARGV;

package Records;
sub errorstring { 'NOERROR' }
sub send {
    my ($self, $name) = @_;
    my ($selector) = $name =~ /^([^.]+)\._domainkey\.sender\.test$/ or die $name;
    open my $file, '<', "$directory/$selector.txt" or die $!;
    my $packet = Net::DNS::Packet->new($name, 'TXT');
    my @parts = unpack '(A250)*', join '', <$file>;
    $packet->push(answer => Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => \@parts));
    return $packet;
}

package main;
Mail::DKIM::DNS::resolver(bless {}, 'Records');
for my $number (0 .. $count - 1) {
    open my $file, '<:raw', "$directory/$number.eml" or die $!;
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($_) while read $file, $_, 65536;
    $verifier->CLOSE;
    for my $signature ($verifier->signatures) {
        my $selector = $signature->selector;
        next unless grep { $_ eq $selector } @selectors;
        my $result = $signature->result;
        warn "$number $selector ", $signature->result_detail, "\n" unless $result eq 'pass';
        print "$number.eml $selector ", $result eq 'pass' ? 'pass' : 'fail', "\n";
    }
}
"#;
    let mut command = Command::new("perl");
    command.args(["-e", PROGRAM]);
    bench().check("Mail::DKIM", command, &["rsa1", "rsa8"]);
}
