//! OpenLDAP's slapd.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bench, PASSWORD, ROWS, as_nobody, demand, unpacked};
use crate::process::Process;
use crate::room::{NOBODY, free_address};

struct Slapd {
    package: PathBuf,
    home: PathBuf,
    address: SocketAddr,
    implicit: SocketAddr,
}

impl Slapd {
    fn new(bench: &Bench) -> Self {
        let package = unpacked(&bench.room, "slapd");
        let home = bench.room.directory("directory", NOBODY);
        bench.room.certificate(&home, "ldap.test", NOBODY);
        bench.room.directory("directory/data", NOBODY);
        fs::write(home.join("slapd.conf"), configuration(&package, &home)).unwrap();
        let slapd = Self { package, home, address: free_address(), implicit: free_address() };
        let mut add = slapd.command();
        add.args(["-T", "add", "-q", "-f"]).arg(slapd.home.join("slapd.conf"));
        demand(add, &entries());
        slapd
    }

    fn command(&self) -> Command {
        let mut command = as_nobody(self.package.join("usr/sbin/slapd"));
        command.env("LD_LIBRARY_PATH", self.package.join("usr/lib/x86_64-linux-gnu"));
        command
    }

    fn socket(&self) -> String {
        let path = self.home.join("socket").display().to_string();
        format!("ldapi://{}", path.replace('/', "%2f"))
    }

    fn start(&self) -> Process {
        let mut command = self.command();
        command.arg("-f").arg(self.home.join("slapd.conf")).args(["-d", "stats,conns", "-h"]);
        command.arg(format!("ldap://{} ldaps://{} {}", self.address, self.implicit, self.socket()));
        // It says that it starts before it listens.
        Process::start("slapd", command, " listen=")
    }
}

/// Everything is for our account only, and nothing in the clear but by the socket.
fn configuration(package: &Path, home: &Path) -> String {
    let (package, home) = (package.display(), home.display());
    let schemas: String = ["core", "cosine", "inetorgperson"]
        .map(|schema| format!("include {package}/etc/ldap/schema/{schema}.schema\n"))
        .concat();
    format!(
        "{schemas}modulepath {package}/usr/lib/ldap\nmoduleload back_mdb\npidfile {home}/pid\n\
         TLSCertificateFile {home}/chain.pem\nTLSCertificateKeyFile {home}/key.pem\n\
         localSSF 128\nsecurity ssf=100\ndisallow bind_anon\n\
         database mdb\nsuffix dc=example\ndirectory {home}/data\nmaxsize 10485760\n\
         access to attrs=userPassword by anonymous auth\n\
         access to * by dn.exact=cn=merpati,dc=example read\n"
    )
}

fn entries() -> String {
    let mut entries = format!(
        "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
         dn: cn=merpati,dc=example\nobjectClass: person\ncn: merpati\nsn: merpati\n\
         userPassword: {PASSWORD}\n\n"
    );
    for (number, (address, home)) in ROWS.iter().enumerate() {
        let (local, domain) = address.split_once('@').unwrap();
        entries += &format!(
            "dn: employeeNumber={number},dc=example\nobjectClass: inetOrgPerson\n\
             employeeNumber: {number}\ncn: {local}\nsn: {local}\nuid: {local}\no: {domain}\n\
             mail: {address}\ndescription: {home}\n\n"
        );
    }
    entries
}

#[test]
fn slapd_is_asked() {
    let bench = Bench::new();
    let slapd = Slapd::new(&bench);
    let process = slapd.start();
    let tcp = format!("ldap://{}", slapd.address);
    let table = |others: &[(&str, &str)]| {
        let usual = [
            ("base", "dc=example"),
            ("filter", "(mail={key})"),
            ("attribute", "DESCRIPTION"),
            ("bind_dn", "cn=merpati,dc=example"),
        ];
        let given = |key: &str| others.iter().any(|(other, _)| *other == key);
        let usual = usual.into_iter().filter(|(key, _)| !given(key));
        bench.table("ldap", &usual.chain(others.iter().copied()).collect::<Vec<_>>())
    };
    let whole = table(&[("url", &tcp)]);
    bench.holds(&whole);
    bench.holds(&table(&[("url", &format!("ldaps://{}", slapd.implicit))]));
    bench.holds(&table(&[("url", &slapd.socket())]));
    let parts = "(&(objectClass=inetOrgPerson)(uid={local})(o={domain}))";
    bench.holds_by_parts(&table(&[("url", &tcp), ("filter", parts), ("multiple", "true")]));
    // One connection serves many searches, one after another.
    assert!(process.log.count("ACCEPT") <= 4, "{}", process.log.count("ACCEPT"));

    let check = |others: &[(&str, &str)], expected: Result<Option<&str>, &str>| {
        let options = [&[("url", tcp.as_str())], others].concat();
        bench.check(&table(&options), "bob@example.org", expected);
    };
    check(&[("ca", "")], Err("certificate"));
    check(&[("tls", "none")], Err("confidentialityRequired"));
    check(&[("bind_dn", "cn=nobody,dc=example")], Err("invalidCredentials"));
    check(&[("base", "dc=elsewhere")], Err("noSuchObject"));
    check(&[("attribute", "title")], Ok(None));
    check(&[("scope", "base")], Ok(None));
    check(&[("scope", "one")], Ok(Some("first")));

    drop(process);
    bench.check(&whole, "bob@example.org", Err("refused"));
    let _process = slapd.start();
    bench.check(&whole, "bob@example.org", Ok(Some("first")));
}
