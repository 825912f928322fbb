//! The server, asked with packets of our own.

use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use super::*;

const ZONE: &str = r#"
; everything there is
receiver.test      MX    10 mx.receiver.test
receiver.test      MX    20 mx2.receiver.test.
receiver.test      TXT   "v=spf1 a " "-all"
_dmarc.receiver.test TXT "v=DMARC1; p=none"  ; nothing yet
mx.receiver.test   A     127.0.0.1
mx.receiver.test   AAAA  ::1
www.test           CNAME receiver.test
dangling.test      CNAME nowhere.test
loop.test          CNAME loop.test
half.test          A     127.0.0.2
half.test          SERVFAIL AAAA
broken.test        SERVFAIL
mute.test          SILENCE
empty.test         NODATA
"#;

fn packet(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// The code, whether it was cut short, and the records' data.
fn show(packet: &[u8]) -> String {
    let message = Message::from_vec(packet).unwrap();
    let mut text = format!("{:?}", message.metadata.response_code);
    if message.metadata.truncation {
        text += " truncated";
    }
    for record in &message.answers {
        text += &format!(" {}:{}", record.data.record_type(), record.data);
    }
    text
}

async fn ask_udp(server: &DnsServer, name: &str, kind: RecordType) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&packet(name, kind), server.address()).await.unwrap();
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).await.unwrap();
    show(&buffer[..length])
}

async fn ask_tcp(server: &DnsServer, questions: &[Vec<u8>]) -> Vec<String> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut answers = Vec::new();
    for question in questions {
        stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
        stream.write_all(question).await.unwrap();
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        answers.push(show(&packet));
    }
    answers
}

#[tokio::test]
async fn answers_from_the_zone() {
    let server = DnsServer::start(Zone::parse(ZONE).unwrap()).await.unwrap();
    let mx = "NoError MX:10 mx.receiver.test. MX:20 mx2.receiver.test.";
    for (name, kind, expected) in [
        ("receiver.test.", RecordType::MX, mx),
        ("RECEIVER.test.", RecordType::MX, mx),
        ("receiver.test.", RecordType::A, "NoError"),
        ("receiver.test.", RecordType::TXT, "NoError TXT:v=spf1 a -all"),
        ("_dmarc.receiver.test.", RecordType::TXT, "NoError TXT:v=DMARC1; p=none"),
        ("mx.receiver.test.", RecordType::A, "NoError A:127.0.0.1"),
        ("mx.receiver.test.", RecordType::AAAA, "NoError AAAA:::1"),
        ("www.test.", RecordType::A, "NoError CNAME:receiver.test."),
        ("dangling.test.", RecordType::A, "NXDomain CNAME:nowhere.test."),
        ("loop.test.", RecordType::A, "ServFail"),
        ("half.test.", RecordType::A, "NoError A:127.0.0.2"),
        ("half.test.", RecordType::AAAA, "ServFail"),
        ("broken.test.", RecordType::MX, "ServFail"),
        ("empty.test.", RecordType::MX, "NoError"),
        ("test.", RecordType::MX, "NoError"),
        ("nowhere.test.", RecordType::MX, "NXDomain"),
    ] {
        assert_eq!(ask_udp(&server, name, kind).await, expected, "{name} {kind}");
        assert_eq!(ask_tcp(&server, &[packet(name, kind)]).await, [expected], "{name} {kind}");
    }
    assert_eq!(server.asked()[..2], ["receiver.test. MX", "receiver.test. MX"]);
}

#[tokio::test]
async fn silence_is_no_answer_and_holds_nobody_up() {
    let server = DnsServer::start(Zone::parse(ZONE).unwrap()).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for name in ["mute.test.", "half.test."] {
        socket.send_to(&packet(name, RecordType::A), server.address()).await.unwrap();
    }
    let mut buffer = [0; 4_096];
    let answer = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    let length = answer.unwrap().unwrap();
    assert_eq!(show(&buffer[..length]), "NoError A:127.0.0.2");
    assert_eq!(server.asked(), ["mute.test. A", "half.test. A"]);
}

#[tokio::test]
async fn long_answers_need_tcp() {
    let zone: String = (0..40).map(|n| format!("many.test A 192.0.2.{n}\n")).collect();
    let server = DnsServer::start(zone.parse().unwrap()).await.unwrap();
    assert_eq!(ask_udp(&server, "many.test.", RecordType::A).await, "NoError truncated");
    let question = packet("many.test.", RecordType::A);
    for answer in ask_tcp(&server, &[question.clone(), question]).await {
        assert_eq!(answer.matches(" A:192.0.2.").count(), 40);
    }
}

#[tokio::test]
async fn the_zone_can_change() {
    let server = DnsServer::start(Zone::parse("a.test A 192.0.2.1").unwrap()).await.unwrap();
    assert_eq!(ask_udp(&server, "a.test.", RecordType::A).await, "NoError A:192.0.2.1");
    server.set_zone(Zone::default());
    assert_eq!(ask_udp(&server, "a.test.", RecordType::A).await, "NXDomain");
}

#[test]
fn wrong_lines_are_named() {
    for (text, line, kind) in [
        ("a..test A 192.0.2.1", 1, ZoneErrorKind::Name),
        ("a.test A 192.0.2.1\n\na.test A x", 3, ZoneErrorKind::Value),
        ("a.test", 1, ZoneErrorKind::Type),
        ("a.test SRV 1", 1, ZoneErrorKind::Type),
        ("a.test SERVFAIL X", 1, ZoneErrorKind::Type),
        ("a.test MX mx.test", 1, ZoneErrorKind::Value),
        ("a.test TXT open", 1, ZoneErrorKind::Value),
        ("a.test TXT \"open", 1, ZoneErrorKind::Value),
    ] {
        assert_eq!(Zone::parse(text).unwrap_err(), ZoneError { line, kind }, "{text}");
    }
}
