//! Whole files, good and bad.

use std::path::Path;
use std::time::Duration;

use merpati_plugin::options::Size;

use super::*;
use crate::ConfigFile;
use crate::sections::{AuthRule, Dnssec, ListenTls, LogFormat, OutboundTls, Protocol};

const GOOD: &str = r#"
hostname = "mx.example.org"
state_dir = "state"
user = "merpati"

[log]
format = "json"
level = "debug"

[tls]
client_ca = "ca.pem"
[[tls.certificate]]
cert = "mx.pem"
key = "/keys/mx.key"

[[listen]]
address = ["0.0.0.0:25", "[::]:25"]
proxy_from = ["10.0.0.0/8", "::1"]
greet_delay = "5s"

[[listen]]
name = "lmtp"
address = "127.0.0.1:24"
protocol = "lmtp"
tls = "none"
auth = "none"

[limits]
message = "20 MiB"
idle = "2m"

[[policy]]
use = "trusted"
networks = ["127.0.0.0/8"]

[[policy]]
use = "recipients"
time_limit = "250ms"
file = "users"

[auth]
use = "file"
path = "users"

[spool]
min_free = "1GiB"

[dns]
servers = ["127.0.0.1", "[::1]:5353"]
dnssec = "off"
trust_anchor = "root.key"

[deliver]
port = 2525
tls = "encrypt"

[[transport]]
match = ["example.org", ".example.org"]
lmtp = { to = "unix:/run/lmtp" }
"#;

#[test]
fn reads_a_whole_file() {
    let file = ConfigFile::parse("/etc/merpati/mx.toml", GOOD);
    let config = RoleConfig::read(file.options());
    file.verdict().unwrap();
    assert_eq!(config.hostname.as_ascii(), "mx.example.org");
    assert_eq!(config.state_dir.value, Path::new("/etc/merpati/state"));
    assert_eq!(config.user.unwrap().value, "merpati");
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "debug"));
    assert_eq!(config.admin.socket, Path::new("/etc/merpati/state/admin.sock"));
    assert!(config.admin.tcp.is_none());
    assert_eq!(config.tls.certificates[0].key.value, Path::new("/keys/mx.key"));
    assert_eq!(config.tls.client_ca.unwrap().place.span.line, 11);
    let [first, second] = &config.listeners[..] else { panic!("two listeners") };
    assert_eq!((first.addresses.len(), first.name.as_str()), (2, "0.0.0.0:25"));
    assert_eq!((first.tls, first.auth), (ListenTls::StartTls, None));
    assert_eq!(first.proxy_from[1].to_string(), "::1/128");
    assert_eq!(first.greet_delay, Duration::from_secs(5));
    assert_eq!((second.protocol, second.tls), (Protocol::Lmtp, ListenTls::None));
    assert_eq!(second.auth, Some(AuthRule::None));
    assert_eq!((config.limits.message, config.limits.errors), (Size(20 << 20), 10));
    let [trusted, recipients] = &config.policies[..] else { panic!("two policies") };
    assert_eq!((trusted.name.value.as_str(), trusted.time_limit), ("trusted", None));
    assert_eq!(recipients.time_limit, Some(Duration::from_millis(250)));
    let keys: Vec<_> = recipients.options.keys().map(|key| key.value.to_owned()).collect();
    assert_eq!(keys, ["file"]);
    assert_eq!(config.auth.unwrap().name.value, "file");
    assert_eq!(config.spool.path, Path::new("/etc/merpati/state/spool"));
    assert_eq!(config.dns.servers[0].to_string(), "127.0.0.1:53");
    assert_eq!(config.dns.dnssec, Dnssec::Off);
    let anchor = config.dns.trust_anchor.as_ref().unwrap();
    assert_eq!(anchor.value, Path::new("/etc/merpati/root.key"));
    assert_eq!((config.deliver.port, config.deliver.tls), (2525, Some(OutboundTls::Encrypt)));
    let [transport] = &config.transports[..] else { panic!("one transport") };
    assert_eq!(transport.kind.value, "lmtp");
    assert_eq!(transport.patterns[1].value, ".example.org");
    assert_eq!(transport.options.keys().next().unwrap().value, "to");
}

/// Reads a file, and gives the first lines of its report's entries.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let file = ConfigFile::parse("f.toml", text);
    let _ = RoleConfig::read(file.options());
    let report = file.verdict().unwrap_err();
    let messages: Vec<_> = report.errors().map(ToString::to_string).collect();
    assert_eq!(messages, expected, "\n{report}");
}

const HEAD: &str = "hostname = 'a.test'\nstate_dir = '/s'\n[[listen]]\naddress = '[::]:25'\n";

#[test]
fn tells_all_mistakes_at_once() {
    check(
        "hostnam = \"a.test\"
state_dir = 5
[[listen]]
address = [\"1.2.3.4\", \"[::]:25\"]
tls = \"implicit\"
[[listen]]
address = \"1.2.3.4:25\"
lisen = 1
[log]
level = \"inf\"
[limits]
errors = 0
idle = \"5\"
[[policy]]
file = \"x\"
[deliver]
retry_first = \"5h\"
[[transport]]
match = \"*\"
[[transport]]
match = \"*\"
lmtp = {}
smtp = {}
[listn]
",
        &[
            "hostname: `hostname` is missing",
            "1:1: hostnam: unknown key `hostnam` (did you mean `hostname`?)",
            "2:13: state_dir: expected a string, found an integer",
            "4:12: listen[0].address[0]: `1.2.3.4` is no address with a port \
             (write \"192.0.2.1:25\" or \"[2001:db8::1]:25\")",
            "5:7: listen[0].tls: TLS is wanted and [tls] has no certificate",
            "8:1: listen[1].lisen: unknown key `lisen` (known: `address`, `auth`, \
             `deliver_by`, `future_release`, `greet_delay`, `mt_priority`, `name`, `protocol`, \
             `proxy_from`, `tls`, `xclient_from`)",
            "10:9: log.level: `inf` is not known here (did you mean `info`?)",
            "12:10: limits.errors: 0 is not between 1 and 10000",
            "13:8: limits.idle: the unit is missing \
             (write a number with ms, s, m, h or d: \"30s\", \"5m\")",
            "14:1: policy[0].use: `use` is missing",
            "17:15: deliver.retry_first: the first interval is longer than `retry_most`",
            "18:1: transport[0]: the kind of transport is missing: lmtp = { … } and the like",
            "23:1: transport[1].smtp: this transport is `lmtp` already",
            "24:2: listn: unknown key `listn` (did you mean `listen`?)",
        ],
    );
}

#[test]
fn tells_syntax_errors_and_goes_on() {
    check(
        &format!("{HEAD}name = \"open\ntls = none\nidle = 5\n"),
        &[
            "5:13: invalid basic string, expected `\"`",
            "6:7: invalid float, expected `nan`",
            "7:1: listen[0].idle: unknown key `idle` (known: `address`, `auth`, \
             `deliver_by`, `future_release`, `greet_delay`, `mt_priority`, `name`, `protocol`, \
             `proxy_from`, `tls`, `xclient_from`)",
        ],
    );
    check(
        &format!("{HEAD}[limits]\nerrors = 99999999999999999999\nidle = 1979-05-27\n"),
        &[
            "6:10: 99999999999999999999 does not fit 64 bits",
            "7:8: 1979-05-27 is a date (no option takes a date; a string has quotes)",
        ],
    );
}

#[test]
fn one_address_is_listened_on_once() {
    check(
        &format!("{HEAD}[[listen]]\naddress = '[::]:25'\n"),
        &["5:1: listen[1]: [::]:25 is listened on already"],
    );
}

#[test]
fn shows_no_secrets() {
    let text =
        format!("{HEAD}[admin.tcp]\naddress = '[::1]:80'\ntoken = 'hunter2'\ntokken = 'hunter2'\n");
    let file = ConfigFile::parse("f.toml", text);
    let _ = RoleConfig::read(file.options());
    let report = file.verdict().unwrap_err().to_string();
    assert!(report.contains("f.toml:7:9: admin.tcp.token: a secret does not stand"), "{report}");
    assert!(report.contains("8 | tokken…\n"), "{report}");
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn owners_report_what_they_find() {
    let file = ConfigFile::parse("f.toml", format!("{HEAD}[[policy]]\nuse = 'trustd'\n"));
    let config = RoleConfig::read(file.options());
    file.verdict().unwrap();
    config.policies[0].unknown(&["trusted", "sender"]);
    file.errors().report(&config.state_dir.place, "not ours to write");
    let report = file.verdict().unwrap_err().to_string();
    let expected = "f.toml:2:13: state_dir: not ours to write
  |
2 | state_dir = '/s'
  |             ^^^^
f.toml:6:7: policy[0].use: `trustd` is not known here
  |
6 | use = 'trustd'
  |       ^^^^^^^^ did you mean `trusted`?
2 mistakes in f.toml
";
    assert_eq!(report, expected);
}

/// What is wrong with a file that has these sections besides.
#[track_caller]
fn check_sources(sections: &str, expected: &[&str]) {
    check(&format!("{HEAD}{sections}"), expected);
}

#[test]
fn sources_are_told_apart_and_lead_somewhere() {
    let good = r#"
[deliver]
source_pool = "both"
[[source]]
name = "a"
addresses = ["192.0.2.1", "2001:db8::1"]
hello = "a.example.org"
[[source]]
name = "b"
via = { socks5 = "127.0.0.1:1080" }
[[source_pool]]
name = "both"
sources = [{ name = "a", weight = 3 }, { name = "b" }]
"#;
    let file = ConfigFile::parse("f.toml", format!("{HEAD}{good}"));
    let config = RoleConfig::read(file.options());
    file.verdict().unwrap();
    let weights: Vec<_> = config.source_pools[0].sources.iter().map(|m| m.weight).collect();
    assert_eq!(weights, [3, 1]);
    check_sources(
        r#"
[deliver]
source_pool = "lettres"
[[source]]
name = "one"
[[source]]
name = "one"
[[source_pool]]
name = "letters"
sources = [{ name = "two" }, { name = "one" }]
[[source_pool]]
name = "one"
sources = [{ name = "letters" }]
"#,
        &[
            "7:15: deliver.source_pool: `lettres` is not known here (did you mean `letters`?)",
            "11:8: source[1].name: there is a source or pool named `one` already",
            "14:21: source_pool[0].sources[0].name: `two` is not known here (known: `one`)",
            "16:8: source_pool[1].name: there is a source or pool named `one` already",
            "17:21: source_pool[1].sources[0].name: `letters` is not known here (known: `one`)",
        ],
    );
}

#[test]
fn sources_that_cannot_be_are_told() {
    check_sources(
        r#"
[deliver]
source = ["192.0.2.1"]
source_pool = "nonsuch"
[[source]]
name = "a b"
[[source]]
name = "one"
addresses = ["192.0.2.1", "192.0.2.2"]
[[source]]
name = "one"
via = { haproxy = "127.0.0.1:25" }
[[source]]
name = "two"
via = { socks5 = "proxy.test" }
[[source]]
name = "three"
via = { socks5 = "127.0.0.1:1080", haproxy = "127.0.0.1:25" }
[[source]]
name = "four"
via = { socks5 = "127.0.0.1:1080", user = "us" }
[[source_pool]]
name = "five"
sources = [{ name = "six", weight = 0 }, { name = "six", weight = 0 }]
[[source_pool]]
name = "seven"
sources = [{ name = "eight", weight = 1001 }]
"#,
        &[
            "8:15: deliver.source_pool: either `source` or `source_pool`",
            "10:8: source[0].name: 1 to 64 letters, digits, `-`, `_` and `.` are expected",
            "13:13: source[1].addresses: more than one address of a family",
            "16:7: source[2].via: the proxy is told where to connect from: `addresses` are missing",
            "19:18: source[3].via.socks5: `proxy.test` is no address with a port \
             (write \"192.0.2.1:25\" or \"[2001:db8::1]:25\")",
            "22:7: source[4].via: either `socks5` or `haproxy` is expected",
            "25:43: source[5].via.user: `password` is missing",
            "28:11: source_pool[0].sources: nobody is in it whose `weight` is not 0",
            "28:51: source_pool[0].sources[1].name: `six` is in it already",
            "31:39: source_pool[1].sources[0].weight: 1001 is not between 0 and 1000",
        ],
    );
}
