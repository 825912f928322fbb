//! Dovecot in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mail::crlf;
use crate::process::Process;
use crate::room::{NOBODY, Room, free_address};

/// A running Dovecot that takes mail by LMTP.
pub(crate) struct Dovecot {
    pub(crate) process: Process,
    pub(crate) port: u16,
    config: PathBuf,
    home: PathBuf,
}

impl Dovecot {
    /// Starts it with mailboxes for whom the mails that cross are for. In carol's there is no
    /// room.
    pub(crate) fn start(room: &Room) -> Self {
        let home = room.directory("dovecot", 0);
        room.directory("dovecot/mail", NOBODY);
        let mut users =
            "bob:::::::\ndave:::::::\ncarol:::::::userdb_quota_rule=*:bytes=100\n".to_owned();
        for number in 1..=100 {
            users += &format!("user{number}:::::::\n");
        }
        fs::write(home.join("users"), users).unwrap();
        let port = free_address().port();
        let config = home.join("dovecot.conf");
        fs::write(&config, configuration(&home, port)).unwrap();
        let mut command = Command::new("/usr/sbin/dovecot");
        command.arg("-F").arg("-c").arg(&config);
        let process = Process::start("dovecot", command, " starting up for lmtp");
        Self { process, port, config, home }
    }

    /// Its socket for LMTP.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("lmtp")
    }

    /// Every message of a user, as doveadm shows it.
    pub(crate) fn fetch(&self, user: &str) -> Vec<Vec<u8>> {
        let output = Command::new("doveadm")
            .arg("-c")
            .arg(&self.config)
            .args(["fetch", "-u", user, "text", "ALL"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let shown = String::from_utf8(output.stdout).expect("no mail here is binary");
        shown.split("text:\n").skip(1).map(|text| crlf(text.as_bytes())).collect()
    }
}

fn configuration(home: &Path, port: u16) -> String {
    format!(
        "protocols = lmtp\nlisten = 127.0.0.1\nssl = no\n\
         base_dir = {home}/run\nstate_dir = {home}/state\nlog_path = /dev/stderr\n\
         mail_location = maildir:{home}/mail/%n\nmail_uid = {NOBODY}\nmail_gid = {NOBODY}\n\
         first_valid_uid = 1\nauth_username_chars =\n\
         passdb {{\n  driver = static\n  args = nopassword=y\n}}\n\
         userdb {{\n  driver = passwd-file\n  args = username_format=%n {home}/users\n}}\n\
         service lmtp {{\n  inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n  \
         unix_listener {home}/lmtp {{\n    mode = 0666\n  }}\n}}\n\
         protocol lmtp {{\n  mail_plugins = quota\n}}\n\
         plugin {{\n  quota = count:User quota\n  quota_vsizes = yes\n  quota_grace = 0\n}}\n",
        home = home.display(),
    )
}

/// A running Dovecot that only knows users, for a Postfix to ask.
pub(crate) struct Users {
    _process: Process,
    /// Where it is asked.
    pub(crate) socket: PathBuf,
}

impl Users {
    /// Starts it with one user, whose password it keeps as it is, so that every mechanism can be
    /// served.
    pub(crate) fn start(room: &Room, user: &str, password: &str) -> Self {
        let home = room.directory("users", 0);
        fs::write(home.join("users"), format!("{user}:{{PLAIN}}{password}:::::\n")).unwrap();
        let socket = home.join("auth");
        let config = format!(
            "protocols =\nssl = no\nbase_dir = {home}/run\nstate_dir = {home}/state\n\
             log_path = /dev/stderr\nauth_debug = yes\n\
             auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256\n\
             passdb {{\n  driver = passwd-file\n  args = {home}/users\n}}\n\
             userdb {{\n  driver = static\n  args = uid={NOBODY} gid={NOBODY} home=/\n}}\n\
             service auth {{\n  unix_listener {socket} {{\n    mode = 0666\n  }}\n}}\n",
            home = home.display(),
            socket = socket.display(),
        );
        let file = home.join("dovecot.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/dovecot");
        command.arg("-F").arg("-c").arg(&file);
        let process = Process::start("dovecot", command, " starting up ");
        Self { _process: process, socket }
    }
}
