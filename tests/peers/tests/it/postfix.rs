//! Postfix in a directory of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::process::Process;
use crate::room::{NOBODY, Room, free_address};

/// A running Postfix that takes mail for `receiver.test` into Maildirs.
pub(crate) struct Postfix {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    home: PathBuf,
}

/// The services a Postfix consists of, none of them in a chroot.
const SERVICES: &str = "\
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
local     unix - n n - - local
virtual   unix - n n - - virtual
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
pickup    unix n - n 60 1 pickup
showq     unix n - n - - showq
";

/// What becomes of the mail it takes.
pub(crate) enum Destination {
    /// `receiver.test` has mailboxes here.
    Mailboxes,
    /// `receiver.test` and `sender.test` are passed on to this address, by TLS, if the
    /// certificate is for the name.
    Relay(SocketAddr, &'static str),
}

impl Postfix {
    /// Starts it; `more` is added to its `main.cf`.
    pub(crate) fn start(room: &Room, destination: &Destination, more: &str) -> Self {
        Self::start_at(free_address(), room, destination, more)
    }

    /// Starts it at an address that is known already.
    pub(crate) fn start_at(
        address: SocketAddr,
        room: &Room,
        destination: &Destination,
        more: &str,
    ) -> Self {
        Self::start_with(address, room, destination, more, "")
    }

    /// Starts it with more services, lines of `master.cf`.
    pub(crate) fn start_with(
        address: SocketAddr,
        room: &Room,
        destination: &Destination,
        more: &str,
        services: &str,
    ) -> Self {
        let home = room.directory("postfix", 0);
        let mail = room.directory("postfix/mail", NOBODY);
        room.directory("postfix/queue", 0);
        room.directory("postfix/data", postfix_user());
        let etc = room.directory("postfix/etc", 0);
        room.certificate(&etc, "mx.receiver.test", 0);
        fs::write(etc.join("recipients"), recipients()).unwrap();
        let destination = match destination {
            Destination::Mailboxes => format!(
                "virtual_mailbox_domains = receiver.test\nvirtual_mailbox_base = {mail}\n\
                 virtual_mailbox_maps = texthash:{etc}/recipients\nvirtual_mailbox_limit = 0\n\
                 virtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\n",
                mail = mail.display(),
                etc = etc.display(),
            ),
            Destination::Relay(to, name) => format!(
                "relay_domains = receiver.test, sender.test\nrelayhost = [{}]:{}\n\
                 smtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = {name}\n\
                 smtp_tls_CAfile = {}\nsmtp_tls_loglevel = 1\nsmtp_dns_support_level = disabled\n",
                to.ip(),
                to.port(),
                room.ca().display(),
            ),
        };
        let main = format!(
            "compatibility_level = 3.6\n\
             queue_directory = {home}/queue\ndata_directory = {home}/data\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
             mail_owner = postfix\nsetgid_group = postdrop\nmaillog_file = /dev/stdout\n\
             myhostname = postfix.test\nmydestination =\nalias_maps =\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
             local_header_rewrite_clients =\nsmtputf8_enable = yes\nmessage_size_limit = 0\n\
             smtpd_tls_cert_file = {etc}/chain.pem\nsmtpd_tls_key_file = {etc}/key.pem\n\
             smtpd_tls_security_level = may\nsmtpd_tls_loglevel = 1\n\
             smtpd_tls_received_header = yes\n{destination}{more}",
            home = home.display(),
            etc = etc.display(),
        );
        fs::write(etc.join("main.cf"), main).unwrap();
        let port = address.port();
        let master = format!("127.0.0.1:{port} inet n - n - - smtpd\n{services}{SERVICES}");
        fs::write(etc.join("master.cf"), master).unwrap();
        // It makes its directories.
        let check = Command::new("/usr/sbin/postfix").arg("-c").arg(&etc).arg("check").output();
        let check = check.expect("postfix is installed");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let mut command = Command::new("/usr/lib/postfix/sbin/master");
        command.arg("-c").arg(&etc).arg("-s");
        let process = Process::start("postfix", command, "daemon started");
        Self { process, address, home }
    }

    /// The Maildir of a local part.
    pub(crate) fn mailbox(&self, local: &str) -> PathBuf {
        self.home.join("mail").join(local)
    }
}

/// A line for each mailbox.
fn recipients() -> String {
    let named = ["bob", "carol", "dave", "üser"].map(str::to_owned);
    let numbered = (1..=100).map(|number| format!("user{number}"));
    named
        .into_iter()
        .chain(numbered)
        .map(|local| format!("{local}@receiver.test {local}/\n"))
        .collect()
}

fn postfix_user() -> u32 {
    let id = Command::new("id").args(["-u", "postfix"]).output().unwrap();
    let id = String::from_utf8(id.stdout).unwrap();
    id.trim().parse().expect("the package makes the user")
}
