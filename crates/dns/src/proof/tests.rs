//! Answers made from a wildcard, with proofs that do not prove.

use hickory_resolver::proto::dnssec::Algorithm;
use hickory_resolver::proto::dnssec::rdata::{NSEC, RRSIG, SigInput};
use hickory_resolver::proto::op::OpCode;
use hickory_resolver::proto::rr::SerialNumber;
use hickory_resolver::proto::rr::rdata::MX;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    let mut record = Record::from_rdata(name(owner), 60, data);
    record.proof = Proof::Secure;
    record
}

fn signature(owner: &str, kind: RecordType, labels: u8) -> Record {
    let input = SigInput {
        type_covered: kind,
        algorithm: Algorithm::ECDSAP256SHA256,
        num_labels: labels,
        original_ttl: 60,
        sig_expiration: SerialNumber::new(2),
        sig_inception: SerialNumber::new(1),
        key_tag: 1,
        signer_name: name("z.test."),
    };
    record(owner, RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![0]))))
}

/// `x.w.z.test MX`, made from a wildcard with so many labels below it; the proof is `owner next`.
fn answer(labels: u8, owner: &str, next: &str, types: &[RecordType]) -> Message {
    let mut message = Message::response(1, OpCode::Query);
    message.add_answer(record("x.w.z.test.", RData::MX(MX::new(10, name("mx.test.")))));
    message.add_answer(signature("x.w.z.test.", RecordType::MX, labels));
    let nsec = NSEC::new(name(next), types.iter().copied());
    message.add_authority(record(owner, RData::DNSSEC(DNSSECRData::NSEC(nsec))));
    message
}

#[test]
fn an_expansion_needs_proof_that_nothing_is_closer() {
    let usual = [RecordType::MX];
    let proven =
        |message: &Message| expansion(&name("x.w.z.test."), RecordType::MX, message).is_some();
    for (labels, owner, next, types, expected) in [
        (3, "*.w.z.test.", "z.test.", &usual[..], true),
        (3, "*.w.z.test.", "y.w.z.test.", &usual, true),
        (2, "a.z.test.", "y.z.test.", &usual, true),
        // They do not cover the name.
        (3, "*.w.z.test.", "a.w.z.test.", &usual, false),
        (3, "x.w.z.test.", "z.test.", &usual, false),
        (3, "y.w.z.test.", "z.test.", &usual, false),
        // The name exists, for something below it does.
        (3, "*.w.z.test.", "a.x.w.z.test.", &usual, false),
        // The wildcard of w.z.test would be closer, or nobody says that there is a w.z.test.
        (2, "*.w.z.test.", "z.test.", &usual, false),
        (3, "a.z.test.", "y.z.test.", &usual, false),
        // Of another zone; of the parent's side of a cut; above a DNAME.
        (3, "a.test.", "z.z.test.", &usual, false),
        (3, "w.z.test.", "y.z.test.", &[RecordType::NS], false),
        (3, "w.z.test.", "y.z.test.", &[RecordType::DNAME], false),
        (3, "w.z.test.", "y.z.test.", &usual, true),
        // No wildcard at all.
        (4, "*.w.z.test.", "z.test.", &usual, false),
    ] {
        let message = answer(labels, owner, next, types);
        assert_eq!(proven(&message), expected, "{labels} {owner} {next} {types:?}");
    }
    let mut unproven = answer(3, "*.w.z.test.", "z.test.", &usual);
    unproven.authorities[0].proof = Proof::Insecure;
    assert!(!proven(&unproven));
    let mut unsigned = answer(3, "*.w.z.test.", "z.test.", &usual);
    unsigned.answers[1].proof = Proof::Indeterminate;
    assert!(!proven(&unsigned));
    let mut forged = answer(3, "*.w.z.test.", "z.test.", &usual);
    forged.answers[0].proof = Proof::Bogus;
    assert!(!proven(&forged));
}

#[test]
fn hickory_is_not_believed_that_an_expansion_is_proven() {
    let owner = name("x.w.z.test.");
    let mut message = answer(3, "*.w.z.test.", "z.test.", &[RecordType::MX]);
    let judged = |message: &Message| {
        let (answers, authorities) = (&message.answers, &message.authorities);
        positive(&owner, RecordType::MX, answers, authorities, Checked::Yes)
    };
    assert_eq!(judged(&message).unwrap().dnssec, Dnssec::Secure);
    message.authorities[0].proof = Proof::Insecure;
    assert!(matches!(judged(&message).unwrap_err().error, ResolveError::Bogus(_)));
}
