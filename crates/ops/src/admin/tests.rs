//! The API as a client sees it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use merpati_plugin::BodySource;
use merpati_plugin::body::BodyReader;
use merpati_plugin::deliver::{
    DeferClass, DeliveryOutcome, DeliveryResult, Handover, MessageSource,
};
use merpati_plugin::spool::{
    self, Attributes, Change, Cursor, Filter, Health, IndexState, Lease, Listed, MessageInfo,
    NewMessage, NextHop, NextHops, Origin, Parcel, ParcelId, ParcelState, Queued, Settlement,
    Share, SpoolError, SpoolWriter, Stats,
};
use merpati_plugin::{Event, Observer};
use merpati_types::{
    BodyType, Envelope, HeaderEdits, Mailbox, MessageId, Notify, Recipient, Rejection, ReversePath,
    Status, Timestamp,
};
use serde_json::json;

use super::*;
use crate::api::{
    ActionRequest, ActivityView, Changed, DnssecView, HealthView, HopView, ListPage, ListRequest,
    MessageView, ReadyView, Selection, State as ParcelStateView, StatsView,
};
use crate::client::{Client, ClientError};

/// A queue of three parcels that notes what it is asked to change.
#[derive(Default)]
struct FakeSpool {
    asked: Mutex<Vec<String>>,
    health: Mutex<Health>,
}

const RAW: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

impl FakeSpool {
    fn note(&self, what: &str, filter: &Filter) -> Result<u64, SpoolError> {
        let id = filter.id.map(|id| id.to_string()).unwrap_or_default();
        let sender = filter.sender.clone().unwrap_or_default();
        self.asked.lock().unwrap().push(format!("{what} id={id} sender={sender}"));
        Ok(2)
    }
}

fn parcel(number: u64) -> Listed {
    let recipients = ["b@receiver.test", "c@receiver.test"].map(|address| Recipient {
        address: Mailbox::parse(address).unwrap(),
        notify: Notify::default(),
        orcpt: None,
    });
    let envelope = Envelope {
        sender: ReversePath::Mailbox(Mailbox::parse("a@sender.test").unwrap()),
        recipients: recipients.into(),
        ret: None,
        envid: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        requiretls: false,
        submitter: None,
    };
    let message = NewMessage {
        envelope,
        edits: HeaderEdits::default(),
        attributes: Attributes::default(),
        origin: Origin::default(),
        arrived: Timestamp::from_millis(0),
    };
    let parcel = Parcel {
        id: ParcelId { message: MessageId::from_u64(number), number: 0 },
        next_hop: NextHop::from_text("receiver.test"),
        info: Arc::new(MessageInfo { message, size: 20 }),
        pending: vec![1],
        attempts: 3,
        due: Timestamp::from_millis(1_000),
        warned: false,
        expired: false,
        last_reason: Some("450 busy".to_owned()),
        unknown_at: None,
        sent_as: None,
    };
    Listed { parcel, state: ParcelState::Deferred }
}

struct Raw;

#[async_trait]
impl MessageSource for Raw {
    fn size(&self) -> u64 {
        RAW.len() as u64
    }
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Bytes::from_static(RAW).open().await.map_err(SpoolError::Unavailable)
    }
}

#[async_trait]
impl Spool for FakeSpool {
    async fn begin(&self) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        Err(SpoolError::NotFound)
    }
    async fn message(&self, id: MessageId) -> Result<Arc<dyn MessageSource>, SpoolError> {
        if id.as_u64() == 1 { Ok(Arc::new(Raw)) } else { Err(SpoolError::NotFound) }
    }
    async fn lease(
        &self,
        _: Timestamp,
        _: Duration,
        _: &NextHops,
        _: usize,
    ) -> Result<Vec<(Lease, Parcel)>, SpoolError> {
        Ok(Vec::new())
    }
    async fn renew(&self, lease: &Lease, _: Timestamp) -> Result<Lease, SpoolError> {
        Ok(lease.clone())
    }
    async fn release(&self, _: Lease, _: Timestamp) -> Result<(), SpoolError> {
        Ok(())
    }
    async fn attempt(&self, _: &Lease, _: &str) -> Result<(), SpoolError> {
        Ok(())
    }
    async fn settle(&self, _: Lease, _: Settlement) -> Result<(), SpoolError> {
        Ok(())
    }
    async fn wait_due(&self, _: Timestamp) {}
    async fn list(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        most: usize,
    ) -> Result<Vec<Listed>, SpoolError> {
        let after = cursor.map_or(0, |cursor| cursor.0.message.as_u64());
        let fits = |id: &u64| filter.id.is_none_or(|wanted| wanted.as_u64() == *id);
        Ok((after + 1..=3).filter(fits).take(most).map(parcel).collect())
    }
    async fn change(
        &self,
        filter: &Filter,
        change: &Change,
        after: Option<Cursor>,
        most: usize,
    ) -> Result<spool::Changed, SpoolError> {
        let what = match change {
            Change::Hold { reason } => format!("hold {reason}"),
            Change::Release { .. } => "release".to_owned(),
            Change::Requeue { .. } => "requeue".to_owned(),
            Change::Expire { .. } => "expire".to_owned(),
            Change::Delete => "delete".to_owned(),
        };
        let parcels = self.note(&what, filter)?;
        let place = after.map_or(0, |cursor| cursor.0.message.as_u64()) + most as u64;
        let next = Cursor(ParcelId { message: MessageId::from_u64(place), number: u32::MAX });
        Ok(spool::Changed { parcels, next: (place < 3_000).then_some(next) })
    }
    fn queued(&self, _: Share<'_>) -> Queued {
        Queued { messages: 3, bytes: 60 }
    }
    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }
    async fn stats(&self) -> Result<Stats, SpoolError> {
        Ok(Stats { messages: 3, deferred: 3, bytes: 60, loading: true, ..Stats::default() })
    }
    async fn close(&self) {}
}

/// Says what it is given; refuses a number.
struct Echo;

#[async_trait]
impl Command for Echo {
    async fn run(&self, input: serde_json::Value) -> Result<serde_json::Value, CommandError> {
        if input.is_number() { Err(CommandError::Wrong("a number".to_owned())) } else { Ok(input) }
    }
}

fn admin(readiness: &Readiness, spool: FakeSpool) -> (Admin, Arc<FakeSpool>) {
    let spool = Arc::new(spool);
    let activity = Arc::new(Activity::default());
    for outcome in outcomes() {
        activity.observe(&Event::Attempted {
            parcel: &parcel(1).parcel,
            recipient: 1,
            transport: "mx",
            outcome: &outcome,
            bounced: false,
        });
    }
    let admin = Admin::new(AdminSettings {
        metrics: Arc::default(),
        readiness: readiness.clone(),
        activity,
        shedding: Arc::new(|| None),
        dnssec: Arc::new(DnssecView::default),
        spool: Arc::clone(&spool) as Arc<dyn Spool>,
        commands: vec![("explain/echo".to_owned(), Arc::new(Echo))],
    });
    (admin, spool)
}

fn outcomes() -> [DeliveryOutcome; 2] {
    let rejection = Rejection::transient(Status::SYSTEM, "busy");
    let deferred = DeliveryOutcome::refused(&rejection, DeferClass::Peer);
    let delivered = DeliveryResult::Delivered(Handover::Relayed);
    [deferred.clone(), DeliveryOutcome { result: delivered, ..deferred }]
}

/// Serves over a socket, and lets `ask` speak to it from a thread of its own.
async fn with_client<T: Send + 'static>(
    readiness: Readiness,
    ask: impl FnOnce(Client) -> T + Send + 'static,
) -> (T, Arc<FakeSpool>) {
    with_spool(readiness, FakeSpool::default(), ask).await
}

async fn with_spool<T: Send + 'static>(
    readiness: Readiness,
    spool: FakeSpool,
    ask: impl FnOnce(Client) -> T + Send + 'static,
) -> (T, Arc<FakeSpool>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let (admin, spool) = admin(&readiness, spool);
    let serving = admin.serve_unix(&path).await.unwrap();
    let client = Client::new(&path);
    let answer = tokio::task::spawn_blocking(move || ask(client)).await.unwrap();
    serving.stop().await;
    assert!(!path.exists());
    (answer, spool)
}

#[tokio::test]
async fn shows_the_queue() {
    with_client(Readiness::default(), |client| {
        let stats: StatsView = client.get("/v1/queue/stats").unwrap();
        assert_eq!((stats.messages, stats.deferred, stats.octets), (3, 3, 60));
        assert!(stats.loading);

        let mut request = ListRequest { limit: Some(2), ..ListRequest::default() };
        let first: ListPage = client.post("/v1/queue/list", &request).unwrap();
        assert_eq!((first.parcels.len(), first.cursor.as_deref()), (2, Some("0000000000002/0")));
        let parcel = &first.parcels[0];
        assert_eq!(
            (parcel.sender.as_str(), &parcel.recipients[..]),
            ("a@sender.test", &["c@receiver.test".to_owned()][..])
        );
        assert_eq!(parcel.state, ParcelStateView::Deferred);
        assert_eq!(parcel.due, "1970-01-01T00:00:01.000Z");
        request.cursor = first.cursor;
        let second: ListPage = client.post("/v1/queue/list", &request).unwrap();
        assert_eq!((second.parcels.len(), second.cursor), (1, None));

        let message: MessageView = client.get("/v1/queue/message/0000000000001").unwrap();
        assert_eq!((message.recipients.len(), message.parcels.len()), (2, 1));
        let mut raw = Vec::new();
        client.download("/v1/queue/message/0000000000001/raw", &mut raw).unwrap();
        assert_eq!(raw, RAW);
    })
    .await;
}

#[tokio::test]
async fn changes_the_queue() {
    let (_, spool) = with_client(Readiness::default(), |client| {
        let some = Selection { sender: Some("a@".to_owned()), ..Selection::default() };
        let one = Selection { id: Some("0000000000001".to_owned()), ..Selection::default() };
        let all = Selection { all: true, ..Selection::default() };
        let ask = |action: &str, selection: &Selection, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            let step = Some(5_000);
            let selection = selection.clone();
            let request = ActionRequest { selection, reason, step, ..ActionRequest::default() };
            let changed: Changed = client.post(&format!("/v1/queue/{action}"), &request).unwrap();
            assert_eq!(changed, Changed { changed: 2, next: None });
        };
        ask("hold", &some, Some("spam"));
        ask("release", &one, None);
        ask("retry", &all, None);
        ask("bounce", &one, None);
        ask("delete", &one, None);
    })
    .await;
    let expected = [
        "hold spam id= sender=a@",
        "release id=0000000000001 sender=",
        "requeue id= sender=",
        "expire id=0000000000001 sender=",
        "delete id=0000000000001 sender=",
    ];
    assert_eq!(*spool.asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn changes_step_by_step() {
    let (steps, spool) = with_client(Readiness::default(), |client| {
        let selection = Selection { all: true, ..Selection::default() };
        let mut request = ActionRequest { selection, ..ActionRequest::default() };
        let mut steps = Vec::new();
        loop {
            let changed: Changed = client.post("/v1/queue/hold", &request).unwrap();
            steps.push(changed.next.clone());
            request.cursor = changed.next;
            if request.cursor.is_none() {
                break steps;
            }
        }
    })
    .await;
    let next = |place: u64| Some(format!("{}/{}", MessageId::from_u64(place), u32::MAX));
    assert_eq!(steps, [next(1_000), next(2_000), None]);
    assert_eq!(spool.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn refuses_what_makes_no_sense() {
    let (_, spool) = with_client(Readiness::default(), |client| {
        let refused = |answer: Result<serde_json::Value, ClientError>| match answer {
            Err(ClientError::Refused { status, text }) => (status, text),
            other => panic!("{other:?}"),
        };
        let check = |path: &str, body: serde_json::Value, expected: u16, says: &str| {
            let (status, text) = refused(client.post(path, &body));
            assert!(status == expected && text.contains(says), "{path}: {status} {text}");
        };
        check("/v1/queue/delete", json!({}), 400, "nothing is selected");
        check("/v1/queue/delete", json!({"selection": {"sendr": "x"}}), 400, "unknown field");
        check("/v1/queue/delete", json!({"selection": {"id": "x"}}), 400, "not a queue id");
        check("/v1/queue/eat", json!({"selection": {"all": true}}), 404, "no action `eat`");
        check("/v1/queue/list", json!({"cursor": "x"}), 400, "not a cursor");
        let all = json!({"selection": {"all": true}, "cursor": "x/y"});
        check("/v1/queue/hold", all, 400, "not a cursor");
        check("/v1/explain/echo", json!(5), 400, "a number");
        let (status, _) = refused(client.get("/v1/queue/message/0000000000009"));
        assert_eq!(status, 404);
        let (status, text) = refused(client.get("/v1/queue/message/0000000000009/raw"));
        assert_eq!((status, text.as_str()), (404, "no such message or parcel"));
        let echo: serde_json::Value = client.post("/v1/explain/echo", &json!({"a": 1})).unwrap();
        assert_eq!(echo, json!({"a": 1}));
    })
    .await;
    assert!(spool.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn tells_readiness_and_metrics() {
    let readiness = Readiness::default();
    let phases = readiness.clone();
    with_client(readiness, move |client| {
        let ready = || client.get::<ReadyView>("/ready");
        assert!(matches!(ready(), Err(ClientError::Refused { status: 503, .. })));
        phases.set(Phase::Serving);
        let expected = ReadyView { ready: true, phase: Phase::Serving, reasons: Vec::new() };
        assert_eq!(ready().unwrap(), expected);
        phases.set(Phase::Draining);
        assert!(matches!(ready(), Err(ClientError::Refused { status: 503, .. })));
        let mut text = Vec::new();
        client.download("/metrics", &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in ["merpati_queue_parcels{state=\"deferred\"} 3", "merpati_ready 0"] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn tells_what_is_wrong() {
    use crate::api::Status::{Degraded, Failing, Ok};

    let check = async |health: Health, status, ready, says: &str, metric: &str| {
        let readiness = Readiness::default();
        readiness.set(Phase::Serving);
        let spool = FakeSpool { health: Mutex::new(health), ..FakeSpool::default() };
        let ask = |client: Client| {
            let health: HealthView = client.get("/v1/health").unwrap();
            let status_of = |path: &str| match client.get::<serde_json::Value>(path) {
                Result::Ok(_) => 200,
                Err(ClientError::Refused { status, .. }) => status,
                Err(other) => panic!("{other}"),
            };
            let codes = (status_of("/health"), status_of("/ready"));
            let mut text = Vec::new();
            client.download("/metrics", &mut text).unwrap();
            (health, codes, String::from_utf8(text).unwrap())
        };
        let ((health, codes, text), _) = with_spool(readiness, spool, ask).await;
        assert_eq!((health.status, health.ready), (status, ready), "{health:?}");
        let expected = (if status == Failing { 503 } else { 200 }, if ready { 200 } else { 503 });
        assert_eq!(codes, expected, "{health:?}");
        assert_eq!(health.reasons.join("\n"), says);
        assert!(text.lines().any(|line| line == metric), "{metric}\n{text}");
    };
    let none = Health::default();
    check(none.clone(), Ok, true, "", "merpati_ready 1").await;
    let full = Health { full: Some("no room".to_owned()), ..none.clone() };
    check(full, Degraded, false, "the spool is full: no room", "merpati_spool_full 1").await;
    let failing = Health { failing: Some("EIO".to_owned()), ..none.clone() };
    let says = "nothing can be made durable: EIO";
    check(failing, Failing, false, says, "merpati_spool_failing 1").await;
    let damaged = Health { damaged: 2, ..none.clone() };
    let says = "places in the spool that cannot be read: 2";
    check(damaged, Degraded, true, says, "merpati_spool_damaged 2").await;
    let loading = Health { index: IndexState::Loading, ..none.clone() };
    let says = "older mail is still being looked up after the start";
    check(loading, Ok, true, says, "merpati_spool_index{state=\"loading\"} 1").await;
    let lost = Health { index: IndexState::Lost, ..none };
    let says = "the spool's index cannot be written: memory grows until a restart";
    check(lost, Degraded, true, says, "merpati_spool_index{state=\"lost\"} 1").await;
}

#[test]
fn tells_whether_answers_of_the_dns_are_validated() {
    use crate::api::Status::{Degraded, Ok};

    let view = |state: &str, reason: Option<&str>, degraded| DnssecView {
        state: state.to_owned(),
        reason: reason.map(str::to_owned),
        degraded,
    };
    for (dnssec, status, says) in [
        (view("validating", None, false), Ok, ""),
        (view("stripped", Some("no signatures"), false), Ok, "DNSSEC is stripped: no signatures"),
        (view("untrusted", Some("forged"), true), Degraded, "DNSSEC is untrusted: forged"),
    ] {
        let readiness = Readiness::default();
        readiness.set(Phase::Serving);
        let told = dnssec.clone();
        let health = Vitals::of(&AdminSettings {
            metrics: Arc::default(),
            readiness,
            activity: Arc::default(),
            shedding: Arc::new(|| None),
            dnssec: Arc::new(move || told.clone()),
            spool: Arc::new(FakeSpool::default()),
            commands: Vec::new(),
        })
        .health();
        assert_eq!((health.status, health.ready, health.dnssec), (status, true, dnssec));
        assert_eq!(health.reasons.join("\n"), says);
    }
}

#[tokio::test]
async fn tells_what_happens() {
    with_client(Readiness::default(), |client| {
        let activity: ActivityView = client.get("/v1/activity").unwrap();
        let ActivityView { accepted, delivered, deferred, bounced, hops, .. } = activity;
        assert_eq!((accepted, delivered, deferred, bounced), (0, 1, 1, 0));
        let expected = HopView {
            domain: "receiver.test".to_owned(),
            messages: 3,
            octets: 60,
            delivered: 1,
            deferred: 1,
            bounced: 0,
            last: Some("451 4.3.0 busy".to_owned()),
        };
        assert_eq!(hops, [expected]);
    })
    .await;
}

#[tokio::test]
async fn replaces_a_dead_socket_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let (admin, _) = admin(&Readiness::default(), FakeSpool::default());
    // A socket whose server is gone.
    drop(UnixListener::bind(&path).unwrap());
    let serving = admin.serve_unix(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(admin.serve_unix(&path).await, Err(AdminError::InUse { .. })));
    serving.stop().await;

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(admin.serve_unix(&path).await, Err(AdminError::NoSocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let nowhere = directory.path().join("absent/admin.sock");
    assert!(matches!(admin.serve_unix(&nowhere).await, Err(AdminError::Socket { .. })));
}

#[tokio::test]
async fn tcp_needs_the_token() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (admin, _) = admin(&Readiness::default(), FakeSpool::default());
    let any = "127.0.0.1:0".parse().unwrap();
    for (token, header, expected) in [
        ("t0ken", "", "401"),
        ("t0ken", "Authorization: Bearer t0ken\r\n", "200"),
        ("t0ken", "Authorization: Bearer t0ke\r\n", "401"),
        ("t0ken", "Authorization: Basic t0ken\r\n", "401"),
        ("", "Authorization: Bearer \r\n", "401"),
        ("", "", "401"),
    ] {
        let serving = admin.serve_tcp(any, Secret::new(token.to_owned())).await.unwrap();
        let mut stream = tokio::net::TcpStream::connect(serving.address().unwrap()).await.unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.get(9..12), Some(expected), "{token:?} {header:?}\n{answer}");
        serving.stop().await;
    }
}
