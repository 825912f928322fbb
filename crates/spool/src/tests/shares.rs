//! What is counted together.

use merpati_plugin::spool::{Share, Spool};
use merpati_store::MemoryStore;
use merpati_testkit::disk::SimDisk;
use merpati_testkit::spool_contract::{body, message, put};
use merpati_types::ReversePath;

use super::open;

#[tokio::test]
async fn a_domain_is_one_however_it_is_written() {
    let (spool, _) = open(&SimDisk::new(), &MemoryStore::with_history());
    for sender in ["<a@b\u{fc}cher.test>", "<a@xn--bcher-kva.test>", "<a@XN--BCHER-KVA.test>"] {
        let mut message = message(&["b@one.test"]);
        message.envelope.sender = ReversePath::parse(sender).expect("a path");
        put(&spool, message, &body(10)).await.expect("commits");
    }
    let queued = spool.queued(Share::SenderDomain("xn--bcher-kva.test"));
    assert_eq!(queued.messages, 3);
}
