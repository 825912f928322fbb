//! Messages as the queue runner hands them over.

use std::sync::atomic::{AtomicUsize, Ordering};

use merpati_plugin::spool::{ParcelId, SpoolError};
use merpati_testkit::spool_contract::parcel;

use super::*;
use crate::fixture::{NOW, signer, verify};
use crate::{Scope, SigningRules};

/// A message in pieces of so many octets, which counts how often it is read.
struct Pieces<'m> {
    message: &'m [u8],
    size: usize,
    reads: AtomicUsize,
}

#[async_trait]
impl MessageSource for Pieces<'_> {
    fn size(&self) -> u64 {
        self.message.len() as u64
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let pieces = self.message.chunks(self.size).rev().map(Bytes::copy_from_slice);
        Ok(Box::new(Left(pieces.collect())))
    }
}

struct Left(Vec<Bytes>);

#[async_trait]
impl BodyReader for Left {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        Ok(self.0.pop())
    }
}

fn policy() -> DkimPolicy {
    let mut signers = DkimSigners::default();
    signers.insert(signer(SigningRules::default()), Scope::Exact);
    DkimPolicy::new(signers, || NOW)
}

/// A part of message `id`.
fn part(id: u64, number: u32) -> Parcel {
    let whole = parcel(id, &["b@receiver.test"], "receiver.test");
    Parcel { id: ParcelId { number, ..whole.id }, ..whole }
}

async fn fields(policy: &DkimPolicy, parcel: &Parcel, message: &Pieces<'_>) -> Bytes {
    match policy.send(parcel, message).await.unwrap() {
        Sending::With(fields) => fields,
        Sending::Stop(why) => panic!("{why}"),
    }
}

fn pieces(message: &[u8], size: usize) -> Pieces<'_> {
    Pieces { message, size, reads: AtomicUsize::new(0) }
}

#[tokio::test]
async fn what_leaves_is_signed_however_it_is_read() {
    let check_with = signer(SigningRules::default());
    for message in [
        &b"From: alice@sender.test\r\nSubject: x\r\n\r\nHello.\r\n"[..],
        b"From: alice@sender.test\r\n\r\n",
        b"From: alice@sender.test\r\n",
        b"Received: a\r\n b\r\nFrom: alice@sender.test\r\n\r\n\r\n\r\nHello \r\n \r\n\r\n",
    ] {
        for size in [1, 2, 3, 7, message.len()] {
            let fields = fields(&policy(), &part(1, 0), &pieces(message, size)).await;
            let verified = verify(&check_with, &[&fields[..], message].concat());
            let results: Vec<_> = verified.iter().map(|(_, result)| *result).collect();
            assert_eq!(results, [Ok(())], "{size}: {}", String::from_utf8_lossy(message));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_signed_is_sent_as_it_is() {
    let long = [b"From: alice@sender.test\r\nX: ", &[b'x'; 1 << 20][..], b"\r\n\r\n"].concat();
    for message in [
        &b""[..],
        b"From: mallory@other.test\r\n\r\nHello.\r\n",
        b"From: alice@sender.test\r\nFrom: mallory@other.test\r\n\r\n",
        b"Subject: x\r\n\r\nHello.\r\n",
        b"From: alice@sender.test\r\nno field\r\n\r\nHello.\r\n",
        b"From: alice@sender.test\r\n\r\nbare\nline end\r\n",
        &long,
    ] {
        for size in [5_000, message.len().max(1)] {
            let fields = fields(&policy(), &part(1, 0), &pieces(message, size)).await;
            assert_eq!(
                fields,
                "",
                "{}",
                String::from_utf8_lossy(&message[..message.len().min(80)])
            );
        }
    }
}

#[tokio::test]
async fn the_parcels_of_a_message_share_its_signature() {
    let policy = policy();
    let message = pieces(b"From: alice@sender.test\r\n\r\nHello.\r\n", 100);
    let first = fields(&policy, &part(1, 0), &message).await;
    assert!(!first.is_empty());
    assert_eq!(fields(&policy, &part(1, 1), &message).await, first);
    assert_eq!(message.reads.load(Ordering::Relaxed), 1);
    let other = pieces(b"From: alice@sender.test\r\n\r\nAnother.\r\n", 100);
    assert_ne!(fields(&policy, &part(2, 0), &other).await, first);
    // No more are kept than that.
    for id in 3..3 + KEPT as u64 {
        fields(&policy, &part(id, 0), &other).await;
    }
    fields(&policy, &part(1, 0), &message).await;
    assert_eq!(message.reads.load(Ordering::Relaxed), 2);
}
