//! What reading says of good and bad options.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use merpati_types::{Domain, Secret};

use super::*;

/// Reads one option as `T`, and gives its `Debug` form or the messages.
fn read<T: FromOption + std::fmt::Debug>(value: impl Into<Value>) -> Result<String, String> {
    let options = Options::new([("key", value.into())]);
    let mut reader = options.reader();
    let read = reader.required::<T>("key");
    match (reader.finish(), read) {
        (Ok(()), Ok(value)) => Ok(format!("{value:?}")),
        (Err(Invalid), _) => Err(messages(&options).join("; ")),
        (Ok(()), Err(Invalid)) => panic!("an error was not recorded"),
    }
}

fn messages(options: &Options) -> Vec<String> {
    options.errors().sorted().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(read: Result<String, String>, expected: Result<&str, &str>) {
    assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
}

fn table(entries: &[(&str, Value)]) -> Value {
    let entry = |(key, value): &(&str, Value)| Entry {
        key: (*key).to_owned(),
        key_span: Span::default(),
        value: value.clone(),
    };
    Kind::Table(entries.iter().map(entry).collect()).into()
}

#[test]
fn reads_types() {
    check(read::<bool>(true), Ok("true"));
    check(read::<bool>("true"), Err("key: expected `true` or `false`, found a string"));
    check(read::<u8>(255), Ok("255"));
    check(read::<u8>(256), Err("key: 256 is not between 0 and 255"));
    check(read::<u16>("25"), Err("key: expected an integer, found a string"));
    check(read::<f64>(2), Ok("2.0"));
    check(read::<char>("+"), Ok("'+'"));
    check(read::<char>("+-"), Err("key: expected one character"));
    check(read::<String>("text"), Ok("\"text\""));
    check(read::<Size>("20MiB"), Ok("Size(20971520)"));
    check(read::<Size>(5), Ok("Size(5)"));
    check(read::<Size>(-5), Err("key: a size below 0"));
    check(read::<Duration>("5m"), Ok("300s"));
    let help = "(write a number with ms, s, m, h or d: \"30s\", \"5m\")";
    check(read::<Duration>(5), Err(&format!("key: a time needs its unit {help}")));
    check(read::<Duration>("5y"), Err(&format!("key: `y` is no unit {help}")));
    check(read::<IpAddr>("::1"), Ok("::1"));
    check(read::<IpAddr>("::1:x"), Err("key: `::1:x` is no IP address"));
    check(read::<SocketAddr>("[::1]:25"), Ok("[::1]:25"));
    check(
        read::<SocketAddr>("::1"),
        Err(
            "key: `::1` is no address with a port (write \"192.0.2.1:25\" or \"[2001:db8::1]:25\")",
        ),
    );
    check(read::<Domain>("Example.org"), Ok("Domain(Example.org)"));
    check(read::<Domain>("a..b"), Err("key: `a..b`: domain has an empty label"));
    check(read::<Parsed<u8>>("7"), Ok("Parsed(7)"));
}

#[test]
fn reads_every_element_of_an_array() {
    check(read::<Vec<u8>>([1, 2]), Ok("[1, 2]"));
    check(
        read::<Vec<u8>>([1, 300, -1]),
        Err("key[1]: 300 is not between 0 and 255; key[2]: -1 is not between 0 and 255"),
    );
    check(read::<OneOrMany<u8>>([1, 2]), Ok("OneOrMany([1, 2])"));
    check(read::<OneOrMany<u8>>(1), Ok("OneOrMany([1])"));
    check(read::<Vec<u8>>(1), Err("key: expected an array, found an integer"));
}

#[test]
fn offers_choices() {
    #[derive(Clone, Debug)]
    enum Mode {
        Strict,
        Lenient,
    }
    impl FromOption for Mode {
        fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
            found.choice(&[("strict", Self::Strict), ("lenient", Self::Lenient)])
        }
    }
    check(read::<Mode>("strict"), Ok("Strict"));
    check(read::<Mode>("lenent"), Err("key: `lenent` is not known here (did you mean `lenient`?)"));
    check(read::<Mode>("x"), Err("key: `x` is not known here (known: `strict`, `lenient`)"));
}

#[test]
fn keeps_secrets() {
    let file = std::env::temp_dir().join(format!("merpati-options-{}", std::process::id()));
    std::fs::write(&file, "hunter2\r\n").unwrap();
    let options = Options::new([("key", table(&[("file", file.to_str().unwrap().into())]))]);
    let secret = options.reader().required::<Secret<String>>("key");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(secret.unwrap().expose(), "hunter2");

    let options = Options::new([("key", "hunter2".into())]);
    assert!(options.reader().required::<Secret<String>>("key").is_err());
    let [error] = options.errors().sorted().try_into().unwrap();
    assert_eq!(error.excerpt, Excerpt::Nothing);
    assert!(!error.to_string().contains("hunter2"));

    check(
        read::<Secret<String>>(table(&[("env", "MERPATI_NO_SUCH_VARIABLE".into())])),
        Err("key.env: the variable is not set, or no text"),
    );
    check(read::<Secret<String>>(table(&[])), Err("key: expected one of `file` and `env`"));
}

#[test]
fn collects_all_mistakes_of_a_table() {
    let options = Options::new([
        ("lisen", "x".into()),
        ("colour", "x".into()),
        ("limit", 11.into()),
        ("wait", "1h".into()),
        ("tls", table(&[("cret", "x".into())])),
    ]);
    let mut reader = options.reader();
    assert!(reader.required::<String>("listen").is_err());
    assert_eq!(reader.ranged("limit", 1..=10, 5), 5);
    let most = Duration::from_secs(60);
    assert_eq!(reader.ranged("wait", Duration::ZERO..=most, most), most);
    assert_eq!(reader.or("absent", 7_u8), 7);
    let tls = reader.table("tls").unwrap();
    let mut inner = tls.reader();
    assert!(inner.required::<String>("cert").is_err());
    assert_eq!(inner.finish(), Err(Invalid));
    assert_eq!(reader.finish(), Err(Invalid));
    assert_eq!(
        messages(&options),
        [
            "listen: `listen` is missing",
            "limit: 11 is not between 1 and 10",
            "wait: 1h is not between 0ms and 1m",
            "tls.cert: `cert` is missing",
            "tls.cret: unknown key `cret` (did you mean `cert`?)",
            "lisen: unknown key `lisen` (did you mean `listen`?)",
            "colour: unknown key `colour` \
             (known: `absent`, `limit`, `listen`, `tls`, `wait`)",
        ]
    );
}

#[test]
fn a_plugin_reads_what_is_left() {
    let options = Options::new([("use", "x".into()), ("own", 1.into())]);
    let (common, own) = options.split(&["use"]);
    let mut reader = common.reader();
    assert_eq!(reader.required::<String>("use").unwrap(), "x");
    assert_eq!(reader.finish(), Ok(()));
    assert_eq!(own.reader().finish(), Err(Invalid));
}

#[test]
fn paths_begin_at_the_file() {
    let entries = ["relative", "/absolute"].map(|path| Entry {
        key: path.trim_start_matches('/').to_owned(),
        key_span: Span::default(),
        value: path.into(),
    });
    let options = Options::root(entries.into(), Errors::default(), Path::new("/etc/merpati"));
    let mut reader = options.reader();
    assert_eq!(reader.required("relative"), Ok(PathBuf::from("/etc/merpati/relative")));
    assert_eq!(reader.required("absolute"), Ok(PathBuf::from("/absolute")));
    assert_eq!(reader.finish(), Ok(()));
}
