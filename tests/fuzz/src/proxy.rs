//! PROXY headers.
//!
//! Promises: a header is found in the same place however much follows it; every shorter beginning
//! asks for more; what is read can be written in both versions and is read the same again.

use bytes::BytesMut;
use merpati_wire::{PROXY_HEADER_LIMIT, ProxyHeader, ProxyProgress};

/// All of the input comes from the peer.
pub fn check(data: &[u8]) {
    match ProxyHeader::parse(data) {
        Ok(ProxyProgress::Complete { header, length }) => {
            assert!(length <= data.len() && length <= PROXY_HEADER_LIMIT);
            assert_eq!(
                ProxyHeader::parse(&data[..length]),
                Ok(ProxyProgress::Complete { header, length })
            );
            for cut in (0..length).rev().take(64) {
                assert_eq!(ProxyHeader::parse(&data[..cut]), Ok(ProxyProgress::Incomplete));
            }
            for encode in [ProxyHeader::encode_v1, ProxyHeader::encode_v2] {
                let mut written = BytesMut::new();
                encode(&header, &mut written);
                let length = written.len();
                let again = ProxyHeader::parse(&written);
                assert_eq!(again, Ok(ProxyProgress::Complete { header, length }));
            }
        }
        Ok(ProxyProgress::Incomplete) => assert!(data.len() < PROXY_HEADER_LIMIT),
        Err(_) => {}
    }
}
