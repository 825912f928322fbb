//! Exim in a directory of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::room::{Room, free_address};

/// The user that the package's Exim becomes.
const USER: &str = "Debian-exim";

/// A running Exim that takes mail for `receiver.test` into Maildirs.
pub(crate) struct Exim {
    _process: Process,
    /// Follows its log.
    pub(crate) log: Process,
    pub(crate) address: SocketAddr,
    home: PathBuf,
}

impl Exim {
    pub(crate) fn start(room: &Room) -> Self {
        let address = free_address();
        let listen = format!(
            "local_interfaces = {}\ndaemon_smtp_ports = {}\ntls_advertise_hosts = *\n\
             tls_certificate = HOME/chain.pem\ntls_privatekey = HOME/key.pem\n",
            address.ip(),
            address.port(),
        );
        Self::start_with(room, address, &listen, "receiver.test")
    }

    /// Starts it with these options of where it listens and what it presents there, which may
    /// speak of its `HOME`, for these domains.
    pub(crate) fn start_with(
        room: &Room,
        address: SocketAddr,
        listen: &str,
        domains: &str,
    ) -> Self {
        let user = user();
        let home = room.directory("exim", user);
        let mail = room.directory("exim/mail", user);
        room.certificate(&home, "mx.receiver.test", user);
        let mut recipients = "bob: bob\ncarol: carol\ndave: dave\nüser: üser\n".to_owned();
        for number in 1..=100 {
            recipients += &format!("user{number}: user{number}\n");
        }
        fs::write(home.join("recipients"), recipients).unwrap();
        // It runs itself anew as its own user, who may not get to where it was unpacked.
        let binary = home.join("exim");
        fs::copy(unpacked(), &binary).unwrap();
        let config = home.join("exim.conf");
        fs::write(&config, configuration(&home, &mail, listen, domains)).unwrap();

        let log_file = home.join("mainlog");
        fs::write(&log_file, "").unwrap();
        std::os::unix::fs::chown(&log_file, Some(user), None).unwrap();
        let mut tail = Command::new("tail");
        tail.args(["--lines=+1", "--follow=name"]).arg(&log_file);
        let log = Process::spawn("exim's log", tail);
        let mut command = Command::new(binary);
        command.arg("-bdf").arg("-C").arg(&config);
        let process = Process::spawn("exim", command);
        log.log.wait(" daemon started: ");
        Self { _process: process, log, address, home }
    }

    /// The Maildir of a local part.
    pub(crate) fn mailbox(&self, local: &str) -> PathBuf {
        self.home.join("mail").join(local)
    }
}

fn configuration(home: &Path, mail: &Path, listen: &str, domains: &str) -> String {
    format!(
        "HOME = {home}\n{listen}exim_path = {home}/exim\nspool_directory = {home}/spool\nlog_file_path = {home}/%slog\n\
         pid_file_path = {home}/pid\nprimary_hostname = exim.test\nkeep_environment =\n\
         never_users = root\ndeliver_drop_privilege = true\nmessage_size_limit = 100M\n\
         smtp_accept_max_per_connection = 0\nsmtp_receive_timeout = 1m\n\
         chunking_advertise_hosts = *\nsmtputf8_advertise_hosts = *\ndsn_advertise_hosts = *\n\
         acl_smtp_rcpt = recipient\nacl_smtp_data = accept\n\n\
         begin acl\nrecipient:\n  accept domains = {domains}\n         \
         local_parts = lsearch;{home}/recipients\n  \
         deny message = 5.1.1 No such user\n\n\
         begin routers\nlocal:\n  driver = accept\n  domains = {domains}\n  \
         local_parts = lsearch;{home}/recipients\n  transport = maildir\n\n\
         begin transports\nmaildir:\n  driver = appendfile\n  \
         directory = {mail}/$local_part_data\n  maildir_format\n  create_directory\n",
        home = home.display(),
        mail = mail.display(),
    )
}

/// Unpacked, since the package excludes Postfix.
pub(crate) fn unpacked() -> PathBuf {
    let root = std::env::var_os("MERPATI_PEERS_ROOT")
        .expect("`cargo xtask test --peers` says where Exim was unpacked");
    PathBuf::from(root).join("exim4-daemon-light/usr/sbin/exim4")
}

/// The id of Exim's user, who is made here as the package would: unpacking makes no users.
pub(crate) fn user() -> u32 {
    let ask = || Command::new("id").args(["-u", USER]).output().unwrap();
    if !ask().status.success() {
        let mut add = Command::new("useradd");
        add.args(["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER]);
        assert!(add.status().unwrap().success(), "cannot make the user {USER}");
    }
    String::from_utf8(ask().stdout).unwrap().trim().parse().unwrap()
}
