//! Rules in their TOML form, and where they lead.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use merpati_config::ConfigFile;
use merpati_deliver::routes::{Routes, routes};
use merpati_deliver::smtp::{Barred, SourcePool, Sources, TlsSettings};
use merpati_deliver::{Destination, Discard, Surroundings, TransportTable, Transports};
use merpati_plugin::resolver::{Lookup, MxRecord};
use merpati_plugin::spool::Parcel;
use merpati_plugin::table::TableError;
use merpati_plugin::{
    Branch, Dnssec, Failure, Headers, ResolveError, Resolver, Route, Router as _, Table, Tables,
    async_trait,
};
use merpati_testkit::spool_contract::parcel;
use merpati_types::{Domain, HeaderSection, ReversePath};

struct NoNames;

#[async_trait]
impl Resolver for NoNames {
    async fn mx(&self, _: &Domain) -> Lookup<MxRecord> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn addresses(&self, _: &Domain) -> Lookup<std::net::IpAddr> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn names(&self, _: std::net::IpAddr) -> Lookup<Domain> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn txt(&self, _: &Domain) -> Lookup<Vec<u8>> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }
}

struct Rows(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl Table for Rows {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        match self.0.get(key) {
            Some(&"broken") => Err(TableError::Unavailable("it is broken".into())),
            found => Ok(found.map(|value| (*value).to_owned())),
        }
    }
}

fn around() -> Surroundings {
    let rows = [
        ("bob@x.test", "transport:partner"),
        ("x.test", "smtp:[relay.test]:587"),
        (".x.test", "error:5.1.2 nobody is below"),
        ("y.test", ""),
        ("z.test", "uucp:z"),
        ("broken.test", "broken"),
        ("customer.test", "anything"),
        ("gold", "transport:partner"),
    ];
    let mut tables = Tables::default();
    tables.insert("routes".to_owned(), Arc::new(Rows(rows.into())));
    let pool = SourcePool { name: "bulk".into(), members: Vec::new() };
    let sources = Sources::default().with_pool(pool);
    Surroundings {
        hostname: Domain::parse("relay.test").unwrap(),
        own_names: Vec::new(),
        barred: Barred::default(),
        mx_port: 25,
        tls: TlsSettings::default(),
        sts: None,
        tls_results: None,
        sources: Arc::new(sources),
        recipients: 100,
        tables,
        resolver: Arc::new(NoNames),
    }
}

/// The rules, or what is wrong with them.
fn read(text: &str) -> Result<Routes, Vec<String>> {
    let file = ConfigFile::parse("relay.toml", text);
    let sections = file.options().reader().tables("route");
    let mut transports = Transports::new();
    for name in ["mx", "partner", "discard"] {
        transports.insert(name.into(), Arc::new(Discard));
    }
    let row = ("row.test".parse().unwrap(), Destination::Transport("row".into()));
    let otherwise = TransportTable::new(vec![row]);
    routes(&sections, &around(), &mut transports, otherwise)
        .map_err(|_| file.errors().sorted().iter().map(ToString::to_string).collect())
}

struct Header(&'static str);

#[async_trait]
impl Headers for Header {
    async fn header(&self) -> Result<Option<HeaderSection>, Failure> {
        match self.0 {
            "" => Err(Failure::new("it is not looked at")),
            text => Ok(HeaderSection::read(&Bytes::from_static(text.as_bytes())).ok()),
        }
    }
}

/// A message to `recipients` of one domain, changed by `with`.
async fn route(
    rules: &str,
    recipients: &[&str],
    header: &'static str,
    with: impl FnOnce(&mut Parcel),
) -> String {
    let rules = read(rules).unwrap();
    let domain = recipients[0].rsplit_once('@').unwrap().1;
    let mut parcel = parcel(1, recipients, domain);
    with(&mut parcel);
    let branches = match rules.branches(&parcel, &Header(header)).await {
        Ok(branches) => branches,
        Err(error) => return format!("error: {error}"),
    };
    let shown = |Branch { places, route }: Branch| {
        let route = match route {
            Route::Transport { name, source_pool: None, .. } => name.to_string(),
            Route::Transport { name, source_pool: Some(pool), .. } => format!("{name} from {pool}"),
            Route::Refuse(rejection) => rejection.to_string(),
            _ => "other".to_owned(),
        };
        format!("{places:?} {route}")
    };
    branches.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn rule(text: &str) -> String {
    format!("[[route]]\n{}\n", text.replace("; ", "\n"))
}

#[tokio::test]
async fn rules_are_asked_in_order() {
    let check = async |rules: &[&str], to: &[&str], expected: &str| {
        let rules: String = rules.iter().map(|text| rule(text)).collect();
        assert_eq!(route(&rules, to, "", |_| ()).await, expected, "{rules}");
    };
    let partner = "transport = \"partner\"";
    check(&[], &["bob@x.test"], "[0] mx").await;
    check(&[], &["bob@row.test"], "[0] row").await;
    check(&[partner], &["bob@row.test"], "[0] partner").await;
    let x = "domain = \"x.test\"; discard = true";
    check(&[x, partner], &["bob@x.test"], "[0] discard").await;
    check(&[x, partner], &["bob@y.test"], "[0] partner").await;
    check(&[partner, x], &["bob@x.test"], "[0] partner").await;
    check(
        &["domain = [\"*.x.test\", \"y.test\"]; error = \"550 5.1.2 no\""],
        &["bob@a.x.test"],
        "[0] 550 5.1.2 no",
    )
    .await;
    check(&["hosts = [\"a.test\", \"b.test:587\"]"], &["bob@x.test"], "[0] route-1").await;
    check(&[x, "hosts = \"a.test\""], &["bob@z.test"], "[0] route-2").await;
    // Where it is sent from may be all that a rule says.
    let bulk = "source_pool = \"bulk\"";
    check(&[bulk], &["bob@x.test"], "[0] mx from bulk").await;
    check(&[bulk], &["bob@row.test"], "[0] row from bulk").await;
    let both = format!("{partner}; {bulk}");
    check(&[&both], &["bob@row.test"], "[0] partner from bulk").await;
    let part = format!("recipient = \"b*\"; {bulk}");
    check(&[&part], &["bob@x.test", "al@x.test", "bo@x.test"], "[0, 2] mx from bulk, [1] mx").await;
    // All conditions must hold.
    check(
        &["domain = \"x.test\"; sender = \"*@other.test\"; discard = true"],
        &["bob@x.test"],
        "[0] mx",
    )
    .await;
    check(&["larger_than = \"1KiB\"; discard = true"], &["bob@x.test"], "[0] mx").await;
}

#[tokio::test]
async fn recipients_of_a_parcel_may_part() {
    let bob = "recipient = \"bob@*\"; transport = \"partner\"";
    let carol = "recipient = [\"c*@x.test\", \"dave@x.test\"]; error = \"4.2.0 later\"";
    let rules = [bob, carol].map(rule).concat();
    let check = async |to: &[&str], expected: &str| {
        assert_eq!(route(&rules, to, "", |_| ()).await, expected, "{to:?}");
    };
    check(&["bob@x.test"], "[0] partner").await;
    check(
        &["a@x.test", "bob@x.test", "b@x.test", "carol@x.test", "Dave@x.test"],
        "[0, 2] mx, [1] partner, [3, 4] 451 4.2.0 later",
    )
    .await;
    // Who is settled has no part in it.
    let settled = |parcel: &mut Parcel| parcel.pending = vec![2, 1];
    let to = ["a@x.test", "bob@x.test", "b@x.test"];
    let said = route(&rules, &to, "", settled).await;
    assert_eq!(said, "[2] mx, [1] partner");
}

#[tokio::test]
async fn tables_say_what_follows() {
    let check = async |rules: &str, to: &[&str], expected: &str| {
        assert_eq!(route(&rule(rules), to, "", |_| ()).await, expected, "{rules} {to:?}");
    };
    let recipient = "recipient = { table = \"routes\" }";
    check(
        recipient,
        &["bob@x.test", "alice@x.test", "Bob+a@x.test"],
        "[0, 2] partner, [1] smtp:[relay.test]:587",
    )
    .await;
    check(recipient, &["bob@a.x.test"], "[0] 550 5.1.2 nobody is below").await;
    let bulk = format!("{recipient}; source_pool = \"bulk\"");
    check(&bulk, &["al@x.test"], "[0] smtp:[relay.test]:587 from bulk").await;
    check(&bulk, &["bob@y.test"], "[0] mx from bulk").await;
    check(&bulk, &["bob@other.test"], "[0] mx").await;
    check(recipient, &["bob@y.test"], "[0] mx").await;
    check(recipient, &["bob@other.test"], "[0] mx").await;
    let wrong = "error: [[route]] 1: `uucp:z` is no route: transport:NAME, smtp:[HOST]:PORT, smtp:DOMAIN, \
                 discard: or error:TEXT is expected";
    check(recipient, &["bob@z.test"], wrong).await;
    check(
        recipient,
        &["bob@broken.test"],
        "error: [[route]] 1: table is unavailable: it is broken: it is broken",
    )
    .await;
    check("domain = { table = \"routes\" }", &["bob@x.test"], "[0] smtp:[relay.test]:587").await;
    check("domain = { table = \"routes\" }", &["bob@a.b.x.test"], "[0] 550 5.1.2 nobody is below")
        .await;
    check(
        "sender_domain = { table = \"routes\" }; transport = \"partner\"",
        &["bob@q.test"],
        "[0] mx",
    )
    .await;
}

#[tokio::test]
async fn conditions_look_at_the_whole_message() {
    let check = async |condition: &str, expected: bool| {
        let rules = rule(&format!("{condition}; transport = \"partner\""));
        let with = |parcel: &mut Parcel| {
            let info = Arc::get_mut(&mut parcel.info).unwrap();
            info.size = 10_000;
            info.message.envelope.sender = ReversePath::parse("<Anna@Customer.test>").unwrap();
            info.message.origin.account = Some("anna".to_owned());
            info.message.attributes.tags.insert("listener".to_owned(), "inside".to_owned());
        };
        let header = "Subject: hello\r\nList-Id: <news.\r\n example.org>\r\nX-Class: bronze\r\n\
                      X-Class: gold\r\n\r\n";
        let expected = if expected { "[0] partner" } else { "[0] mx" };
        assert_eq!(route(&rules, &["bob@x.test"], header, with).await, expected, "{condition}");
    };
    check("sender = \"anna@customer.test\"", true).await;
    check("sender = \"*@customer.*\"", true).await;
    check("sender = \"<>\"", false).await;
    check("sender_domain = \"CUSTOMER.test\"", true).await;
    check("sender_domain = \".test\"", true).await;
    check("sender_domain = \".customer.test\"", false).await;
    check("sender_domain = { table = \"routes\" }", true).await;
    check("user = \"ann?\"", true).await;
    check("user = [\"bob\", \"carol\"]", false).await;
    check("listener = \"inside\"", true).await;
    check("listener = \"outside\"", false).await;
    check("larger_than = 9999", true).await;
    check("larger_than = 10000", false).await;
    check("smaller_than = \"10001B\"", true).await;
    check("smaller_than = 10000", false).await;
    check("header = { name = \"list-id\", matches = \"<news. example.org>\" }", true).await;
    check("header = { name = \"X-Class\", matches = [\"silver\", \"go*\"] }", true).await;
    check("header = { name = \"X-Class\", matches = \"silver\" }", false).await;
    check("header = { name = \"X-None\", matches = \"*\" }", false).await;
    check("header = { name = \"X-Class\", table = \"routes\" }", true).await;
    check("recipient = \"bob@*\"; user = \"anna\"", true).await;
    check("recipient = \"bob@*\"; user = \"other\"", false).await;
    // It is read only where it makes a difference.
    let late = "header = { name = \"Subject\", matches = \"*\" }; domain = \"other.test\"";
    let rules = rule(&format!("{late}; discard = true"));
    assert_eq!(route(&rules, &["bob@x.test"], "", |_| ()).await, "[0] mx");
}

#[test]
fn mistakes_are_told_where_they_stand() {
    let check = |text: &str, expected: &[&str]| {
        let told = read(&rule(text)).err().unwrap_or_default();
        assert_eq!(told, expected, "{text}");
    };
    check(
        "domain = \"x.test\"",
        &[
            "1:1: route[0]: what follows? `transport`, `hosts`, `discard`, `error`, or a table that says so",
        ],
    );
    check(
        "transport = \"none\"",
        &["2:13: route[0].transport: there is no transport `none`: `discard`, `mx`, `partner`"],
    );
    check(
        "source_pool = \"none\"",
        &["2:15: route[0].source_pool: `none` is not known here (known: `bulk`)"],
    );
    for action in ["discard = true", "error = \"no\""] {
        check(
            &format!("source_pool = \"bulk\"; {action}"),
            &["2:15: route[0].source_pool: nothing is sent by this rule"],
        );
    }
    check(
        "transport = \"mx\"; discard = true",
        &["2:13: route[0].transport: a route leads to one place"],
    );
    check(
        "domain = []; discard = true",
        &["2:10: route[0].domain: one at least: this would never hold"],
    );
    check(
        "domian = \"x.test\"; discard = true",
        &["2:1: route[0].domian: unknown key `domian` (did you mean `domain`?)"],
    );
    check(
        "domain = { table = \"none\" }",
        &["2:20: route[0].domain.table: `none` is not known here (known: `routes`)"],
    );
    check(
        "hosts = \"a b\"",
        &["2:9: route[0].hosts: `a b`: domain has a label that is not allowed"],
    );
    check(
        "header = { name = \"X\" }; discard = true",
        &["2:10: route[0].header: either `matches` or `table`"],
    );
}
