//! PostgreSQL.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::{Bench, PASSWORD, ROWS, as_nobody, demand, unpacked};
use crate::process::Process;
use crate::room::{NOBODY, free_address};

struct Postgres {
    programs: PathBuf,
    home: PathBuf,
    address: SocketAddr,
}

impl Postgres {
    /// A database whose only user has a password and TLS, or the Unix socket.
    fn new(bench: &Bench) -> Self {
        let programs = unpacked(&bench.room, "postgresql-15").join("usr/lib/postgresql/15/bin");
        let home = bench.room.directory("postgres", NOBODY);
        bench.room.certificate(&home, "db.test", NOBODY);
        let postgres = Self { programs, home, address: free_address() };
        let mut initdb = postgres.command("initdb");
        initdb.args(["--no-sync", "--auth=reject", "--username=root", "-E", "UTF8", "-D"]);
        initdb.arg(postgres.data());
        demand(initdb, "");
        let access = "hostssl all mail 127.0.0.1/32 scram-sha-256\nlocal all mail scram-sha-256\n";
        fs::write(postgres.data().join("pg_hba.conf"), access).unwrap();
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut sql = format!("CREATE ROLE mail LOGIN PASSWORD {}\n", text(PASSWORD));
        sql +=
            "CREATE TABLE users (address text, local text, domain text, home text, number int)\n";
        sql += "GRANT SELECT ON users TO mail\n";
        for (number, (address, home)) in ROWS.iter().enumerate() {
            let (local, domain) = address.split_once('@').unwrap();
            let row = [address, local, domain, home].map(text).join(", ");
            sql += &format!("INSERT INTO users VALUES ({row}, {number})\n");
        }
        let mut single = postgres.command("postgres");
        single.args(["--single", "-D"]).arg(postgres.data()).arg("postgres");
        demand(single, &sql);
        postgres
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn command(&self, program: &str) -> Command {
        as_nobody(self.programs.join(program))
    }

    fn start(&self) -> Process {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.home);
        command.arg("-h").arg(self.address.ip().to_string());
        command.arg("-p").arg(self.address.port().to_string());
        for setting in ["fsync=off", "ssl=on"] {
            command.arg("-c").arg(setting);
        }
        for (setting, file) in [("ssl_cert_file", "chain.pem"), ("ssl_key_file", "key.pem")] {
            command.arg("-c").arg(format!("{setting}={}", self.home.join(file).display()));
        }
        Process::start("postgres", command, "ready to accept connections")
    }

    /// Stops at once, whoever is connected.
    fn stop(&self, process: Process) {
        let mut command = self.command("pg_ctl");
        command.args(["stop", "-m", "immediate", "-D"]).arg(self.data());
        demand(command, "");
        drop(process);
    }
}

#[test]
fn postgresql_is_asked() {
    let bench = Bench::new();
    let postgres = Postgres::new(&bench);
    let process = postgres.start();
    let tcp = format!("postgres://mail@{}/postgres", postgres.address);
    let socket = format!(
        "postgres://mail@localhost:{}/postgres?host={}",
        postgres.address.port(),
        postgres.home.display()
    );
    let query = "SELECT home FROM users WHERE address = :key";
    let whole = bench.table("sql", &[("url", &tcp), ("query", query)]);
    bench.holds(&whole);
    let parts = "SELECT home::text FROM users WHERE local = :local AND domain = :domain";
    let several = bench.table("sql", &[("url", &tcp), ("query", parts), ("multiple", "true")]);
    bench.holds_by_parts(&several);
    bench.holds(&bench.table("sql", &[("url", &socket), ("query", query)]));

    let check = |others: &[(&str, &str)], expected: &str| {
        let options = [&[("url", tcp.as_str())], others].concat();
        bench.check(&bench.table("sql", &options), "bob@example.org", Err(expected));
    };
    check(&[("query", query), ("ca", "")], "certificate");
    check(&[("query", query), ("tls", "none")], "no pg_hba.conf entry");
    check(&[("query", "SELECT number FROM users WHERE address = :key")], "INT4");
    check(&[("query", "SELECT home FROM nowhere WHERE address = :key")], "does not exist");
    check(&[("query", "DELETE FROM users WHERE address = :key")], "permission denied");
    check(&[("query", "SELECT :key FROM pg_sleep(2)"), ("timeout", "200ms")], "within 200ms");

    postgres.stop(process);
    bench.check(&whole, "bob@example.org", Err("refused"));
    let process = postgres.start();
    bench.check(&whole, "bob@example.org", Ok(Some("first")));
    postgres.stop(process);
}
