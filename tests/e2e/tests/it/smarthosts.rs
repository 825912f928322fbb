//! A real relay that sends some of its mail through smarthosts.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Cursor, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message, read, subject};
use merpati_e2e::smtp::{By, Mail};
use merpati_e2e::until;
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::config::SASLConfig;
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::mechname::Mechname;
use rsasl::prelude::{SASLServer, SessionError, State, Validation};
use rsasl::property::AuthId;
use rsasl::validate::{Validate, ValidationError};

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
const CAROL: &str = "carol@receiver.test";
const LIMIT: Duration = Duration::from_secs(30);

/// What SCRAM-SHA-256 keeps of the password `pencil`: salt, stored key and server key, with the
/// salt and the count of RFC 7677 §3.
const KEYS: [&str; 3] = [
    "W22ZaJ0SNY7soEsUEjb6gQ==",
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
];

struct Known;

struct Name;

impl Validation for Name {
    type Value = String;
}

impl SessionCallback for Known {
    fn callback(
        &self,
        _: &SessionData,
        _: &Context<'_>,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        let [salt, stored, server] = KEYS.map(|key| STANDARD.decode(key).unwrap());
        let stored = ScramStoredPassword::new(4_096, &salt, &stored, &server);
        request.satisfy::<ScramStoredPassword<'static>>(&stored).map(drop)
    }

    fn validate(
        &self,
        _: &SessionData,
        context: &Context<'_>,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        let name = context.get_ref::<AuthId>().unwrap_or_default().to_owned();
        validate.with::<Name, _>(|| Ok(name)).map(drop)
    }
}

/// A smarthost that takes mail of who speaks SCRAM-SHA-256. It notes who that is, and for whom
/// there is mail.
struct Smarthost {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Smarthost {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&heard);
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = Arc::clone(&lines);
                thread::spawn(move || serve(BufReader::new(stream), &lines));
            }
        });
        Self { address, heard }
    }
}

fn serve(mut stream: BufReader<TcpStream>, heard: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut known = false;
    stream.get_mut().write_all(b"220 smarthost.test ESMTP\r\n")?;
    loop {
        let line = line(&mut stream)?;
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-smarthost.test\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n",
            "AUTH" => match authenticate(&mut stream, &line)? {
                Some(user) => {
                    known = true;
                    heard.lock().unwrap().push(format!("SCRAM-SHA-256 {user}"));
                    "235 2.7.0 hello\r\n"
                }
                None => "535 5.7.8 who are you?\r\n",
            },
            "MAIL" if !known => "530 5.7.0 log in\r\n",
            "RCPT" => {
                heard.lock().unwrap().push(line);
                "250 2.1.5 ok\r\n"
            }
            "DATA" => {
                stream.get_mut().write_all(b"354 go on\r\n")?;
                while self::line(&mut stream)? != "." {}
                "250 2.0.0 taken\r\n"
            }
            "QUIT" => return stream.get_mut().write_all(b"221 bye\r\n"),
            _ => "250 2.0.0 ok\r\n",
        };
        stream.get_mut().write_all(reply.as_bytes())?;
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn authenticate(stream: &mut BufReader<TcpStream>, command: &str) -> io::Result<Option<String>> {
    let Some(initial) = command.strip_prefix("AUTH SCRAM-SHA-256 ") else { return Ok(None) };
    let config = SASLConfig::builder().with_defaults().with_callback(Known).unwrap();
    let name = Mechname::parse(b"SCRAM-SHA-256").unwrap();
    let mut server = SASLServer::<Name>::new(config).start_suggested(name).unwrap();
    let mut response = initial.to_owned();
    loop {
        let mut challenge = Cursor::new(Vec::new());
        let response_now = STANDARD.decode(&response).unwrap();
        let Ok(state) = server.step(Some(&response_now), &mut challenge) else { return Ok(None) };
        let challenge = STANDARD.encode(challenge.into_inner());
        stream.get_mut().write_all(format!("334 {challenge}\r\n").as_bytes())?;
        response = line(stream)?;
        if let State::Finished(_) = state {
            return Ok(server.validation());
        }
    }
}

/// One message to two mailboxes of a domain: one of them goes by a rule through smarthosts, of which
/// the first is down, and the other by MX.
#[test]
fn the_second_smarthost_is_used_where_the_first_is_down() {
    let mut demo = Demo::start().unwrap();
    let smarthost = Smarthost::start();
    let nobody = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let password = demo.dir.join("relay/password");
    fs::write(&password, "pencil\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(demo.dir.join("relay/state")).unwrap();
    chown(&password, Some(owner.uid()), Some(owner.gid())).unwrap();
    demo.reconfigure("relay", |text| {
        format!(
            "{text}\n[[transport]]\nname = \"smarthosts\"\n[transport.smtp]\n\
             host = [\"[{}]:{}\", \"[{}]:{}\"]\ntls = \"none\"\nauth_in_clear = true\n\
             user = \"relay\"\npassword = {{ file = \"{}\" }}\n\n\
             [[route]]\nrecipient = \"carol@*\"\nsender_domain = \"sender.test\"\n\
             transport = \"smarthosts\"\n",
            nobody.ip(),
            nobody.port(),
            smarthost.address.ip(),
            smarthost.address.port(),
            password.display(),
        )
    })
    .unwrap();
    let content = message("parted", ALICE, b"Coo.\r\n");
    let to = &[CAROL, BOB];
    let mail = Mail { from: ALICE, to, parameters: "", content: &content, by: By::Data };
    demo.submit_as(ALICE).unwrap().send(&mail).unwrap();

    let heard = || smarthost.heard.lock().unwrap().clone();
    assert!(until::holds(LIMIT, || heard().len() >= 2), "{}", demo.tail("relay"));
    let to_carol = format!("RCPT TO:<{CAROL}>");
    assert_eq!(heard(), ["SCRAM-SHA-256 relay", to_carol.as_str()], "{}", demo.tail("relay"));
    let arrived = until::within(LIMIT, || {
        let files = delivered(demo.maildir(BOB)).into_iter();
        files
            .filter_map(|file| read(&file).ok())
            .find(|text| subject(text).as_deref() == Some("parted"))
    });
    assert!(arrived.is_some(), "{}", demo.tail("relay"));
}
