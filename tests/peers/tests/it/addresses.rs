//! Addresses that other implementations have signed, and ours in their hands.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use merpati_dsn::{Batv, BatvKey, Keyring, Srs, SrsOptions, SrsReverseError};
use merpati_types::{Domain, Mailbox, Secret, Timestamp};

use crate::exim;
use crate::process::Process;
use crate::room::free_address;

/// How long a daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

const SECRET: &str = "tops3cret";
const SENDERS: [&str; 4] =
    ["alice@sender.test", "Bob+tag=x@Sub.Sender.test", "a-b.c@x.test", "srs0@x.test"];

/// `forward SENDER DOMAIN` or `reverse ADDRESS`.
const PERL: &str = "\
BEGIN { our $now = $ENV{NOW}; *CORE::GLOBAL::time = sub { $now } }
use Mail::SRS::Guarded;
my $srs = Mail::SRS::Guarded->new(Secret => $ENV{SECRET});
my ($what, @rest) = @ARGV;
print $what eq 'forward' ? $srs->forward(@rest) : $srs->reverse(@rest);
";

const PYTHON: &str = "\
import os, sys, time
import SRS, SRS.Guarded
time.time = lambda: int(os.environ['NOW'])
srs = SRS.Guarded.Guarded(secret=os.environ['SECRET'])
print({'forward': srs.forward, 'reverse': srs.reverse}[sys.argv[1]](*sys.argv[2:]), end='')
";

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(0).after(since)
}

fn address(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn secret() -> Secret<Vec<u8>> {
    Secret::new(SECRET.as_bytes().to_vec())
}

fn srs(domain: &str) -> Srs {
    Srs::new(Keyring::new(secret()), Domain::parse(domain).unwrap(), SrsOptions::default())
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The daemon that Postfix asks, with two tables over TCP (tcp_table(5)).
struct Postsrsd {
    forward: SocketAddr,
    reverse: SocketAddr,
    _process: Process,
}

impl Postsrsd {
    fn start(directory: &Path, domain: &str) -> Self {
        let secret = directory.join(domain);
        fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let root = std::env::var_os("MERPATI_PEERS_ROOT")
            .expect("`cargo xtask test --peers` says where postsrsd was unpacked");
        let mut command = Command::new(Path::new(&root).join("postsrsd/usr/sbin/postsrsd"));
        let (forward, reverse) = (free_address(), free_address());
        command.arg(format!("-s{}", secret.display())).arg(format!("-d{domain}")).arg("-4");
        command.arg(format!("-f{}", forward.port())).arg(format!("-r{}", reverse.port()));
        let process = Process::spawn("postsrsd", command);
        Self { forward, reverse, _process: process }
    }

    /// It says nothing when it is ready.
    fn connect(table: SocketAddr) -> TcpStream {
        let began = Instant::now();
        loop {
            match TcpStream::connect(table) {
                Ok(stream) => return stream,
                Err(error) => assert!(began.elapsed() < LIMIT, "postsrsd: {error}"),
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// What an address becomes, or the reply if it has no other form.
    fn ask(table: SocketAddr, address: &str) -> String {
        let mut stream = Self::connect(table);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("get {address}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        let reply = reply.trim_end();
        reply.strip_prefix("200 ").unwrap_or(reply).to_owned()
    }
}

#[test]
fn postsrsd_rewrites_alike() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one.test", "two.test"].map(|at| Postsrsd::start(directory.path(), at));
    // It rewrites nothing twice, and takes the last one for rewritten, since it begins so.
    for sender in &SENDERS[..3] {
        let now = now();
        let first = Postsrsd::ask(one.forward, sender);
        assert_eq!(srs("one.test").reverse(&address(&first), now), Ok(address(sender)), "{first}");
        let second = srs("two.test").forward(&address(&first), now).unwrap();
        let back = Postsrsd::ask(two.reverse, &second.to_string());
        assert_eq!(address(&back), address(&first), "{second}");

        let first = srs("one.test").forward(&address(sender), now).unwrap();
        let back = Postsrsd::ask(one.reverse, &first.to_string());
        assert_eq!(address(&back), address(sender), "{first}");
    }
    // Neither takes what nobody has signed.
    let forged = "SRS0=abcd=JM=sender.test=alice@one.test";
    assert!(Postsrsd::ask(one.reverse, forged).starts_with("500 "));
    assert_eq!(srs("one.test").reverse(&address(forged), now()), Err(SrsReverseError::Forged));
}

/// Through one forwarder of theirs, one of ours, and back, and the other way round.
fn check(command: impl Fn() -> Command) {
    let now = now();
    let theirs = |arguments: &[&str]| {
        let seconds = (now.as_millis() / 1_000).to_string();
        output(command().args(arguments).env("NOW", seconds).env("SECRET", SECRET))
    };
    for sender in SENDERS {
        let one = theirs(&["forward", sender, "one.test"]);
        assert_eq!(srs("one.test").reverse(&address(&one), now), Ok(address(sender)), "{one}");
        let two = srs("two.test").forward(&address(&one), now).unwrap();
        let back = theirs(&["reverse", &two.to_string()]);
        assert_eq!(address(&back), address(&one), "{two}");

        let one = srs("one.test").forward(&address(sender), now).unwrap();
        let back = theirs(&["reverse", &one.to_string()]);
        assert_eq!(address(&back), address(sender), "{one}");
        let two = theirs(&["forward", &one.to_string(), "two.test"]);
        assert_eq!(srs("two.test").reverse(&address(&two), now), Ok(one), "{two}");
    }
}

#[test]
fn mail_srs_rewrites_alike() {
    check(|| {
        let mut command = Command::new("perl");
        command.args(["-e", PERL]);
        command
    });
}

#[test]
fn pysrs_rewrites_alike() {
    check(|| {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", PYTHON]);
        command
    });
}

#[test]
fn exim_signs_and_checks_alike() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exim.conf");
    let configuration = format!(
        "exim_path = {}\nspool_directory = {home}\nlog_file_path = {home}/%slog\n\
         primary_hostname = exim.test\nkeep_environment =\n",
        exim::unpacked().display(),
        home = directory.path().display(),
    );
    fs::write(&file, configuration).unwrap();
    exim::user();
    let expand = |text: String| {
        let mut command = Command::new(exim::unpacked());
        output(command.arg("-C").arg(&file).args(["-be", &text])).trim_end().to_owned()
    };
    let batv = Batv::new(BatvKey::new(3, secret()));
    for sender in ["alice@sender.test", "Bob+tag=x@sender.test", "a-b.c@x.test"] {
        let theirs = expand(format!("${{prvs{{{sender}}}{{{SECRET}}}{{3}}}}"));
        assert_eq!(batv.verify(&address(&theirs), now()), Ok(address(sender)), "{theirs}");
        let ours = batv.sign(&address(sender), now()).unwrap();
        let checked = expand(format!(
            "${{prvscheck{{{ours}}}{{{SECRET}}}\
             {{$prvscheck_address $prvscheck_keynum $prvscheck_result}}}}"
        ));
        assert_eq!(checked, format!("{sender} 3 1"), "{ours}");
    }
}
