//! Real clients → submission → relay → mx → mailbox, through the demo.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::everything;
use crate::mail::{Mail, mails};
use crate::process::Process;
use crate::room::Room;
use crate::sender::stuffed;

/// What a client is told.
struct Task<'a> {
    demo: &'a Demo,
    tls: Tls,
    mail: &'a Mail,
    /// The message, CRLF line ends.
    message: PathBuf,
}

/// How a client comes to TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Start,
    Implicit,
}

impl Task<'_> {
    fn port(&self) -> String {
        let address = match self.tls {
            Tls::Start => self.demo.starttls,
            Tls::Implicit => self.demo.tls,
        };
        address.port().to_string()
    }

    /// One text or the other.
    fn by<'t>(&self, start: &'t str, implicit: &'t str) -> &'t str {
        match self.tls {
            Tls::Start => start,
            Tls::Implicit => implicit,
        }
    }

    /// The address, user and password, CA, TLS, envelope and message, for a program of our own.
    fn arguments(&self) -> Vec<String> {
        let demo = self.demo;
        let mut arguments =
            vec![self.port(), self.by("starttls", "implicit").to_owned(), path(&demo.ca)];
        arguments.extend([demo.login.clone(), demo.password.clone(), path(&self.message)]);
        arguments.push(self.mail.from.to_owned());
        arguments.extend(self.mail.to.iter().cloned());
        arguments
    }
}

/// The demo, held.
struct Demo {
    _process: Process,
    /// Follows the log of the mx.
    mx: Process,
    starttls: SocketAddr,
    tls: SocketAddr,
    ca: PathBuf,
    login: String,
    password: String,
    mailboxes: Value,
}

impl Demo {
    fn start(room: &Room) -> Self {
        let dir = room.path().join("demo");
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["xtask", "demo", "--hold", "--json", "--dir"]).arg(&dir);
        let process = Process::spawn("the demo", command);
        let told: Value = serde_json::from_str(&process.log.wait("{\"")).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut tail = Command::new("tail");
        tail.args(["--lines=+1", "--follow=name"]).arg(dir.join("mx/log.txt"));
        Self {
            _process: process,
            mx: Process::spawn("the mx of the demo", tail),
            starttls: text(&told["submission"]["starttls"]).parse().unwrap(),
            tls: text(&told["submission"]["tls"]).parse().unwrap(),
            ca: text(&told["ca"]).into(),
            login: text(&told["users"][0]["login"]),
            password: text(&told["users"][0]["password"]),
            mailboxes: told["mailboxes"].clone(),
        }
    }

    fn mailbox(&self, local: &str) -> PathBuf {
        let address = format!("{local}@receiver.test");
        self.mailboxes[&address].as_str().expect("the demo has the mailbox").into()
    }
}

/// Sends every mail by STARTTLS and by implicit TLS.
fn check(client: &str, command: impl Fn(&Task<'_>) -> Command) {
    let room = Room::new();
    let demo = Demo::start(&room);
    let mut arrived = 0;
    for tls in [Tls::Start, Tls::Implicit] {
        for mut mail in mails(everything()).into_iter().filter(|mail| mail.is_for_clients()) {
            let message = room.path().join("message");
            mail.rename(match tls {
                Tls::Start => "STARTTLS",
                Tls::Implicit => "implicit TLS",
            });
            fs::write(&message, &mail.content).unwrap();
            let task = Task { demo: &demo, tls, mail: &mail, message };
            let output = command(&task).output().expect("the client is installed");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success(), "{client}, {}:\n{said}", mail.name);
            arrived += mail.to.len();
            demo.mx.log.wait_for(arrived, "event=\"delivered\"");
            mail.assert_arrived(|local| demo.mailbox(local));
        }
    }
}

#[test]
fn swaks_sends() {
    check("swaks", |task| {
        // Left to itself it takes a last line that is a dot for the end it is to send.
        let message = stuffed(&fs::read(&task.message).unwrap());
        fs::write(&task.message, [message, b".\r\n".to_vec()].concat()).unwrap();
        let mut command = Command::new("swaks");
        command.args(["--server", "127.0.0.1", "--port", &task.port()]);
        command.args([task.by("--tls", "--tls-on-connect"), "--tls-verify"]);
        command.arg("--tls-ca-path").arg(&task.demo.ca);
        command.args(["--auth", task.by("PLAIN", "LOGIN")]);
        command.args(["--auth-user", &task.demo.login, "--auth-password", &task.demo.password]);
        command.args(["--from", task.mail.from, "--to", &task.mail.to.join(",")]);
        command.args(["--no-data-fixup", "--data", &format!("@{}", path(&task.message))]);
        command
    });
}

#[test]
fn smtplib_sends() {
    const PROGRAM: &str = "
import smtplib, ssl, sys
port, mode, ca, login, password, message, sender, *recipients = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if mode == 'starttls':
    server = smtplib.SMTP('127.0.0.1', int(port))
    server.starttls(context=context)
else:
    server = smtplib.SMTP_SSL('127.0.0.1', int(port), context=context)
server.login(login, password)
refused = server.sendmail(sender, recipients, open(message, 'rb').read())
server.quit()
sys.exit(repr(refused) if refused else 0)
";
    check("smtplib", |task| {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", PROGRAM]).args(task.arguments());
        command
    });
}

#[test]
fn curl_sends() {
    check("curl", |task| {
        let mut command = Command::new("curl");
        let scheme = task.by("smtp", "smtps");
        command.args(["--silent", "--show-error", "--ssl-reqd"]);
        command.arg(format!("{scheme}://127.0.0.1:{}/client.sender.test", task.port()));
        command.arg("--cacert").arg(&task.demo.ca);
        command.args(["--user", &format!("{}:{}", task.demo.login, task.demo.password)]);
        command.args(["--mail-from", task.mail.from]);
        for to in &task.mail.to {
            command.args(["--mail-rcpt", to]);
        }
        command.arg("--upload-file").arg(&task.message);
        command
    });
}

#[test]
fn msmtp_sends() {
    check("msmtp", |task| {
        // It wants the line ends of the system.
        let message = fs::read(&task.message).unwrap();
        let message: Vec<_> = message.into_iter().filter(|&octet| octet != b'\r').collect();
        fs::write(&task.message, message).unwrap();
        let mut command = Command::new("msmtp");
        command.args(["--file=/dev/null", "--host=127.0.0.1", &format!("--port={}", task.port())]);
        command.args(["--tls=on", task.by("--tls-starttls=on", "--tls-starttls=off")]);
        command.arg(format!("--tls-trust-file={}", path(&task.demo.ca)));
        command.args([task.by("--auth=plain", "--auth=login"), "--domain=client.sender.test"]);
        command.arg(format!("--user={}", task.demo.login));
        command.arg(format!("--passwordeval=echo {}", task.demo.password));
        command.args([&format!("--from={}", task.mail.from), "--"]).args(&task.mail.to);
        command.stdin(Stdio::from(fs::File::open(&task.message).unwrap()));
        command
    });
}

#[test]
fn nodemailer_sends() {
    const PROGRAM: &str = "
const [module, port, mode, ca, login, password, message, from, ...to] = process.argv.slice(1);
const read = require('fs').readFileSync;
const transport = require(module).createTransport({
    host: '127.0.0.1', port: Number(port), secure: mode === 'implicit', requireTLS: true,
    auth: { user: login, pass: password }, tls: { ca: [read(ca)], servername: 'localhost' },
});
transport.sendMail({ envelope: { from, to }, raw: read(message) }).then(
    (info) => process.exit(info.rejected.length ? 1 : 0),
    (error) => { console.error(error); process.exit(1); },
);
";
    let root = std::env::var_os("MERPATI_PEERS_ROOT")
        .expect("`cargo xtask test --peers` says where nodemailer was unpacked");
    let module = Path::new(&root).join("node-nodemailer/usr/share/nodejs/nodemailer");
    check("nodemailer", |task| {
        let mut command = Command::new("node");
        command.args(["-e", PROGRAM]).arg(&module).args(task.arguments());
        command
    });
}

fn path(path: &Path) -> String {
    path.to_str().expect("it is made of plain names").to_owned()
}
