//! Addresses that other implementations have signed, and ours in their hands.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use merpati_dsn::{Batv, BatvKey, Keyring, Srs, SrsOptions};
use merpati_types::{Domain, Mailbox, Secret, Timestamp};

use crate::exim;

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
