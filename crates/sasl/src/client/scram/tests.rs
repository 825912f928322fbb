//! The examples of the RFCs, and servers that lie.

use super::*;

struct Vector {
    mechanism: Mechanism,
    nonce: &'static str,
    first: &'static str,
    server_first: &'static str,
    last: &'static str,
    server_last: &'static str,
}

/// RFC 5802 §5.
const SHA1: Vector = Vector {
    mechanism: Mechanism::ScramSha1,
    nonce: "fyko+d2lbbFgONRv9qkxdawL",
    first: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    server_first: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    last: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    server_last: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
};

/// RFC 7677 §3.
const SHA256: Vector = Vector {
    mechanism: Mechanism::ScramSha256,
    nonce: "rOprNGfwEbeRWgbNEkqO",
    first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,\
                   i=4096",
    last: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
           p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    server_last: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

fn begin(vector: &Vector, channel: &Channel<'_>) -> Scram {
    let nonce = STANDARD.decode(vector.nonce).unwrap();
    let password = Secret::new("pencil".to_owned());
    Scram::new(vector.mechanism, "user", &password, channel, &nonce).unwrap()
}

fn open() -> Channel<'static> {
    Channel::Encrypted { binding: None, server_binds: false }
}

#[test]
fn the_examples_of_the_rfcs() {
    for vector in [SHA1, SHA256] {
        for given in [true, false] {
            let mut scram = begin(&vector, &open());
            let first = match given {
                true => scram.initial().unwrap(),
                false => scram.respond(b"").unwrap(),
            };
            assert_eq!(String::from_utf8(first).unwrap(), vector.first);
            let last = scram.respond(vector.server_first.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(last).unwrap(), vector.last);
            assert_eq!(scram.finish(), Err(ExchangeError::Impostor));
            assert_eq!(scram.respond(vector.server_last.as_bytes()), Ok(Vec::new()));
            assert_eq!(scram.finish(), Ok(()));
            assert_eq!(scram.respond(b"v="), Err(ExchangeError::UnexpectedChallenge));
        }
    }
}

#[test]
fn a_server_that_proves_nothing_is_not_believed() {
    let check = |server_last: &str, expected: ExchangeError| {
        let mut scram = begin(&SHA1, &open());
        scram.initial();
        scram.respond(SHA1.server_first.as_bytes()).unwrap();
        assert_eq!(scram.respond(server_last.as_bytes()), Err(expected), "{server_last}");
        assert_eq!(scram.finish(), Err(ExchangeError::Impostor));
    };
    check("v=rmF9pqV8S7suAoZWja4dJRkFsKR=", ExchangeError::Malformed("the signature"));
    check("v=rmF9pqV8S7suAoZWja4dJRkFsKU=", ExchangeError::Impostor);
    check("v=smF9pqV8S7suAoZWja4dJRkFsKQ=", ExchangeError::Impostor);
    check("v=", ExchangeError::Impostor);
    check("", ExchangeError::Malformed("no signature"));
    check("e=invalid-proof", ExchangeError::Refused("invalid-proof".to_owned()));
}

#[test]
fn challenges_are_read_with_care() {
    let check = |server_first: &str, expected: ExchangeError| {
        let mut scram = begin(&SHA1, &open());
        scram.initial();
        assert_eq!(scram.respond(server_first.as_bytes()), Err(expected), "{server_first}");
    };
    let malformed = ExchangeError::Malformed;
    let ours = SHA1.nonce;
    check("", malformed("no nonce"));
    check(&format!("m=x,r={ours}a,s=QQ==,i=4096"), malformed("no nonce"));
    check("r=another,s=QQ==,i=4096", malformed("the nonce is not for us"));
    check(&format!("r={ours},s=QQ==,i=4096"), malformed("the nonce adds nothing to ours"));
    check(&format!("r={ours}a b,s=QQ==,i=4096"), malformed("the nonce adds nothing to ours"));
    check(&format!("r={ours}a,i=4096"), malformed("no salt"));
    check(&format!("r={ours}a,s=,i=4096"), malformed("the salt"));
    check(&format!("r={ours}a,s=!,i=4096"), malformed("the salt"));
    check(&format!("r={ours}a,s=QQ=="), malformed("no iteration count"));
    check(&format!("r={ours}a,s=QQ==,i=x"), malformed("the iteration count"));
    check(&format!("r={ours}a,s=QQ==,i=4095"), ExchangeError::Iterations(4_095));
    check(&format!("r={ours}a,s=QQ==,i=2000001"), ExchangeError::Iterations(2_000_001));
    check(&format!("r={ours}a,s=QQ==,i=99999999999"), ExchangeError::Iterations(99_999_999_999));
    check(&"x".repeat(MESSAGE_LIMIT + 1), malformed("too long"));
}

#[test]
fn channels_are_bound_or_the_server_is_told_that_they_could_be() {
    let binding = Binding::new(BindingKind::TlsExporter, b"channel".to_vec());
    let end_point = Binding::new(BindingKind::TlsServerEndPoint, b"channel".to_vec());
    let check = |mechanism, channel: Channel<'_>, expected: Option<(&str, &[u8])>| {
        let password = Secret::new("pencil".to_owned());
        let scram = Scram::new(mechanism, "a=b,c", &password, &channel, &[0; 15]);
        let Some((header, binding)) = expected else { return assert!(scram.is_none()) };
        let mut scram = scram.unwrap();
        let first = String::from_utf8(scram.initial().unwrap()).unwrap();
        assert_eq!(first, format!("{header}n=a=3Db=2Cc,r=AAAAAAAAAAAAAAAAAAAA"));
        let challenge = b"r=AAAAAAAAAAAAAAAAAAAAx,s=QQ==,i=4096";
        let last = String::from_utf8(scram.respond(challenge).unwrap()).unwrap();
        let said = last.split(',').next().unwrap().strip_prefix("c=").unwrap();
        let expected = [header.as_bytes(), binding].concat();
        assert_eq!(STANDARD.decode(said).unwrap(), expected);
    };
    let bound = |binding, server_binds| Channel::Encrypted { binding, server_binds };
    let plus = Mechanism::ScramSha256Plus;
    check(plus, bound(Some(&binding), true), Some(("p=tls-exporter,,", b"channel")));
    check(plus, bound(Some(&end_point), true), Some(("p=tls-server-end-point,,", b"channel")));
    check(plus, bound(None, true), None);
    check(Mechanism::ScramSha256, bound(Some(&binding), false), Some(("y,,", b"")));
    check(Mechanism::ScramSha256, bound(Some(&binding), true), Some(("n,,", b"")));
    check(Mechanism::ScramSha1, bound(None, false), Some(("n,,", b"")));
}

#[test]
fn names_and_passwords_are_prepared() {
    let check = |text: &str, expected: &str| assert_eq!(prepared(text), expected);
    check("I\u{ad}X", "IX");
    check("\u{aa}", "a");
    check("pencil", "pencil");
    // Prohibited: it goes as it is.
    check("a\u{7}", "a\u{7}");
}
