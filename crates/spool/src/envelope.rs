//! A message without its bytes, as it is stored.

use merpati_plugin::spool::{Attributes, DeliverBy, NewMessage, Origin, RepeatKey};
use merpati_types::{
    BodyType, ByMode, Envelope, Envid, HeaderEdits, Host, LocalPart, Mailbox, Notify, NotifyOn,
    Orcpt, Recipient, Ret, ReversePath, Submitter,
};

use crate::codec::{Decoder, Encoder, Malformed};

/// The form this code writes and the only one it reads.
const VERSION: u8 = 2;

pub(crate) fn encode(out: &mut Encoder, message: &NewMessage) {
    out.u8(VERSION);
    out.time(message.arrived);
    envelope(out, &message.envelope);
    out.bytes(&message.edits.encode());
    let attributes = &message.attributes;
    out.option(attributes.hold.as_deref(), Encoder::text);
    out.option(attributes.folder.as_deref(), Encoder::text);
    out.option(attributes.not_before, Encoder::time);
    out.u8(attributes.priority.cast_unsigned());
    out.option(attributes.source_pool.as_deref(), Encoder::text);
    out.option(attributes.deliver_by, |out, by| {
        out.time(by.at);
        out.flag(by.mode == ByMode::Return);
        out.flag(by.trace);
    });
    out.list(attributes.tags.iter(), |out, (key, value)| {
        out.text(key);
        out.text(value);
    });
    let origin = &message.origin;
    out.option(origin.address, |out, address| out.text(&address.to_string()));
    out.option(origin.hello.as_deref(), Encoder::text);
    out.option(origin.account.as_deref(), Encoder::text);
    out.option(origin.repeat, |out, RepeatKey(key)| out.bytes(&key));
}

pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<NewMessage, Malformed> {
    if from.u8()? != VERSION {
        return Err(Malformed);
    }
    Ok(NewMessage {
        arrived: from.time()?,
        envelope: read_envelope(from)?,
        edits: HeaderEdits::decode(from.bytes()?).map_err(|_| Malformed)?,
        attributes: Attributes {
            hold: from.option(Decoder::string)?,
            folder: from.option(Decoder::string)?,
            not_before: from.option(Decoder::time)?,
            priority: from.u8()?.cast_signed(),
            source_pool: from.option(Decoder::string)?,
            deliver_by: from.option(|from| {
                Ok(DeliverBy {
                    at: from.time()?,
                    mode: if from.flag()? { ByMode::Return } else { ByMode::Notify },
                    trace: from.flag()?,
                })
            })?,
            tags: from.list(|from| Ok((from.string()?, from.string()?)))?.into_iter().collect(),
        },
        origin: Origin {
            address: from.option(|from| from.text()?.parse().map_err(|_| Malformed))?,
            hello: from.option(Decoder::string)?,
            account: from.option(Decoder::string)?,
            repeat: from
                .option(|from| from.bytes()?.try_into().map(RepeatKey).map_err(|_| Malformed))?,
        },
    })
}

fn envelope(out: &mut Encoder, envelope: &Envelope) {
    out.option(envelope.sender.mailbox(), mailbox);
    out.list(envelope.recipients.iter(), |out, recipient| {
        mailbox(out, &recipient.address);
        out.u8(match recipient.notify {
            Notify::Unspecified => 0,
            Notify::Never => 1,
            Notify::On(on) => {
                0x80 | u8::from(on.success) | u8::from(on.failure) << 1 | u8::from(on.delay) << 2
            }
        });
        out.option(recipient.orcpt.as_ref(), |out, orcpt| out.text(&orcpt.to_string()));
    });
    out.u8(match envelope.ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    });
    out.option(envelope.envid.as_ref(), |out, envid| out.text(&envid.to_string()));
    out.u8(match envelope.body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    });
    out.flag(envelope.smtputf8);
    out.flag(envelope.requiretls);
    out.option(envelope.submitter.as_ref(), |out, submitter| out.text(&submitter.to_string()));
}

fn read_envelope(from: &mut Decoder<'_>) -> Result<Envelope, Malformed> {
    let sender = from.option(read_mailbox)?.map_or(ReversePath::Null, ReversePath::Mailbox);
    let recipients = from.list(|from| {
        let address = read_mailbox(from)?;
        let notify = match from.u8()? {
            0 => Notify::Unspecified,
            1 => Notify::Never,
            bits if bits & 0xf8 == 0x80 => Notify::On(NotifyOn {
                success: bits & 1 != 0,
                failure: bits & 2 != 0,
                delay: bits & 4 != 0,
            }),
            _ => return Err(Malformed),
        };
        // These are for reports only: one that is too long once encoded is no reason to
        // lose the recipient.
        let orcpt = from.option(Decoder::text)?;
        let orcpt = orcpt.and_then(|text| Orcpt::from_parameter(text).ok());
        Ok(Recipient { address, notify, orcpt })
    })?;
    Ok(Envelope {
        sender,
        recipients,
        ret: match from.u8()? {
            0 => None,
            1 => Some(Ret::Full),
            2 => Some(Ret::Headers),
            _ => return Err(Malformed),
        },
        envid: from.option(Decoder::text)?.and_then(|text| Envid::from_xtext(text).ok()),
        body: match from.u8()? {
            0 => BodyType::SevenBit,
            1 => BodyType::EightBitMime,
            2 => BodyType::BinaryMime,
            _ => return Err(Malformed),
        },
        smtputf8: from.flag()?,
        requiretls: from.flag()?,
        submitter: from
            .option(Decoder::text)?
            .and_then(|text| Submitter::from_parameter(text).ok()),
    })
}

/// The local part goes unquoted: quoting can take it over the limit of the text form.
fn mailbox(out: &mut Encoder, mailbox: &Mailbox) {
    out.text(mailbox.local().as_str());
    out.text(&mailbox.host().to_string());
}

fn read_mailbox(from: &mut Decoder<'_>) -> Result<Mailbox, Malformed> {
    let local = LocalPart::from_content(from.text()?).map_err(|_| Malformed)?;
    Ok(Mailbox::new(local, Host::parse(from.text()?).map_err(|_| Malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use merpati_types::{FieldName, FieldValue, HeaderEdit, Timestamp};

    fn full() -> NewMessage {
        let mut envelope = Envelope::new(ReversePath::parse("<bob+x@sender.test>").unwrap());
        let addresses = ["a@b.test", "\"a b\"@b.test", "ä@bücher.test", "a@[192.0.2.1]"];
        for (place, address) in addresses.iter().enumerate() {
            let address = Mailbox::parse(address).unwrap();
            let notify = match place {
                0 => Notify::Never,
                1 => Notify::On(NotifyOn { success: true, failure: false, delay: true }),
                _ => Notify::Unspecified,
            };
            let orcpt = (place > 1).then(|| Orcpt::of(&address));
            envelope.recipients.push(Recipient { address, notify, orcpt });
        }
        envelope.ret = Some(Ret::Headers);
        envelope.envid = Some(Envid::from_xtext("id+2B1").unwrap());
        envelope.body = BodyType::BinaryMime;
        (envelope.smtputf8, envelope.requiretls) = (true, true);
        envelope.submitter = Some(Submitter::Unknown);
        let mut edits = HeaderEdits::default();
        let value = FieldValue::new("value").unwrap();
        edits.push(HeaderEdit::Prepend(FieldName::new("Received").unwrap(), value));
        NewMessage {
            envelope,
            edits,
            attributes: Attributes {
                hold: Some("wait".into()),
                folder: Some("Junk".into()),
                not_before: Some(Timestamp::from_millis(-5)),
                priority: -9,
                source_pool: Some("pool".into()),
                deliver_by: Some(DeliverBy {
                    at: Timestamp::from_millis(9),
                    mode: ByMode::Return,
                    trace: true,
                }),
                tags: [("k".to_owned(), "v".to_owned())].into(),
            },
            origin: Origin {
                address: Some("2001:db8::1".parse().unwrap()),
                hello: Some("client.test".into()),
                account: Some("bob".into()),
                repeat: Some(RepeatKey([7; 32])),
            },
            arrived: Timestamp::from_millis(1_795_420_800_123),
        }
    }

    #[test]
    fn a_message_reads_back_and_any_cut_is_noticed() {
        let null = NewMessage {
            envelope: Envelope::new(ReversePath::Null),
            edits: HeaderEdits::default(),
            attributes: Attributes::default(),
            origin: Origin::default(),
            arrived: Timestamp::default(),
        };
        for message in [full(), null] {
            let mut out = Encoder::default();
            encode(&mut out, &message);
            let bytes = out.finish();
            let mut decoder = Decoder(&bytes);
            let again = decode(&mut decoder).unwrap();
            assert!(decoder.0.is_empty());
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
            for cut in 0..bytes.len() {
                assert!(decode(&mut Decoder(&bytes[..cut])).is_err(), "cut at {cut}");
            }
        }
    }
}
