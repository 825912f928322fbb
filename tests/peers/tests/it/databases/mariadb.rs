//! MariaDB.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::{Bench, PASSWORD, ROWS, as_nobody, demand, unpacked};
use crate::process::Process;
use crate::room::{NOBODY, free_address};

struct Mariadb {
    package: PathBuf,
    home: PathBuf,
    address: SocketAddr,
}

impl Mariadb {
    /// A database whose only user has a password, and TLS or the Unix socket.
    fn new(bench: &Bench) -> Self {
        let package = unpacked(&bench.room, "mariadb-server-core");
        let home = bench.room.directory("mariadb", NOBODY);
        bench.room.certificate(&home, "db.test", NOBODY);
        let mariadb = Self { package, home, address: free_address() };
        let mut tables = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n".to_owned();
        for file in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
            let file = mariadb.package.join("usr/share/mysql").join(file);
            tables += &fs::read_to_string(file).unwrap();
        }
        let mut bootstrap = mariadb.command();
        bootstrap.arg("--bootstrap");
        demand(bootstrap, &tables);
        fs::write(mariadb.home.join("init.sql"), statements()).unwrap();
        mariadb
    }

    fn command(&self) -> Command {
        let mut command = as_nobody(self.package.join("usr/sbin/mariadbd"));
        let share = self.package.join("usr/share/mysql");
        command.arg("--no-defaults").arg(format!("--datadir={}", self.home.display()));
        command.arg(format!("--lc-messages-dir={}", share.display()));
        command.arg(format!("--character-sets-dir={}", share.join("charsets").display()));
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=8M"]);
        command
    }

    fn start(&self) -> Process {
        let mut command = self.command();
        for (option, file) in [
            ("init-file", "init.sql"),
            ("ssl-cert", "chain.pem"),
            ("ssl-key", "key.pem"),
            ("socket", "socket"),
            ("pid-file", "pid"),
        ] {
            command.arg(format!("--{option}={}", self.home.join(file).display()));
        }
        command.arg("--skip-name-resolve");
        command.arg(format!("--bind-address={}", self.address.ip()));
        command.arg(format!("--port={}", self.address.port()));
        Process::start("mariadbd", command, "ready for connections")
    }
}

/// One a line.
fn statements() -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut sql = "CREATE DATABASE IF NOT EXISTS mail;\n".to_owned();
    for (host, need) in [("127.0.0.1", "REQUIRE SSL"), ("localhost", "REQUIRE NONE")] {
        let user = format!("'mail'@'{host}' IDENTIFIED BY {} {need}", text(PASSWORD));
        sql += &format!("CREATE OR REPLACE USER {user};\n");
        sql += &format!("GRANT SELECT ON mail.* TO 'mail'@'{host}';\n");
    }
    sql += "CREATE OR REPLACE TABLE mail.users (address VARCHAR(320), local VARCHAR(64), \
            domain VARCHAR(255), home TEXT, number INT) CHARACTER SET utf8mb4;\n";
    for (number, (address, home)) in ROWS.iter().enumerate() {
        let (local, domain) = address.split_once('@').unwrap();
        let row = [address, local, domain, home].map(text).join(", ");
        sql += &format!("INSERT INTO mail.users VALUES ({row}, {number});\n");
    }
    sql
}

#[test]
fn mariadb_is_asked() {
    let bench = Bench::new();
    let mariadb = Mariadb::new(&bench);
    let process = mariadb.start();
    let tcp = format!("mysql://mail@{}/mail", mariadb.address);
    let socket = mariadb.home.join("socket");
    let socket = format!("mariadb://mail@localhost/mail?socket={}", socket.display());
    let query = "SELECT home FROM users WHERE address = :key";
    let whole = bench.table("sql", &[("url", &tcp), ("query", query)]);
    bench.holds(&whole);
    let parts = "SELECT home FROM users WHERE local = :local AND domain = :domain";
    let several = bench.table("sql", &[("url", &tcp), ("query", parts), ("multiple", "true")]);
    bench.holds_by_parts(&several);
    let by_socket = bench.table("sql", &[("url", &socket), ("query", query)]);
    bench.holds(&by_socket);

    let check = |others: &[(&str, &str)], expected: &str| {
        let options = [&[("url", tcp.as_str())], others].concat();
        bench.check(&bench.table("sql", &options), "bob@example.org", Err(expected));
    };
    check(&[("query", query), ("ca", "")], "certificate");
    check(&[("query", query), ("tls", "none")], "Access denied");
    check(&[("query", "SELECT number FROM users WHERE address = :key")], "INT");
    check(&[("query", "SELECT home FROM nowhere WHERE address = :key")], "doesn't exist");
    check(&[("query", "DELETE FROM users WHERE address = :key")], "denied");
    check(
        &[("query", "SELECT :key FROM users WHERE SLEEP(2)"), ("timeout", "200ms")],
        "within 200ms",
    );

    drop(process);
    bench.check(&whole, "bob@example.org", Err("refused"));
    let _process = mariadb.start();
    bench.check(&whole, "bob@example.org", Ok(Some("first")));
}
