//! Messages: DATA and BDAT, kept or read to the end and refused.

use bytes::Buf;
use merpati_types::{Rejection, Status};
use merpati_wire::{Decoded, Flaws, Last};

use super::replies::{self, Counts};
use super::state::{AfterDrop, Asked, Chunked, Fate, State, Transaction};
use super::{Action, Question, Session};

impl Session {
    pub(super) fn proceed_data(&mut self) -> bool {
        let limit = self.config.limits.message;
        let State::Data { decoder, fate, .. } = &mut self.state else { return false };
        match decoder.decode(&mut self.input) {
            None => return false,
            Some(Decoded::Body(bytes)) => {
                let size = decoder.size();
                if size > limit.saturating_mul(2) {
                    self.end_overlong();
                    return true;
                }
                match fate {
                    Fate::Keep if size <= limit => self.actions.push_back(Action::Body(bytes)),
                    Fate::Keep => self.spoil(replies::too_big()),
                    Fate::Refuse(_) => {}
                }
            }
            Some(Decoded::End) => {
                let flaws = decoder.flaws();
                if let State::Data { transaction, fate, .. } = self.take_state() {
                    self.body_ended(transaction, fate, flaws);
                }
            }
        }
        true
    }

    pub(super) fn proceed_chunk(&mut self) -> bool {
        let limit = self.config.limits.message;
        let State::Chunk { message, .. } = &mut self.state else { return false };
        match message.decoder.decode(&mut self.input) {
            None => return false,
            Some(Decoded::Body(bytes)) => {
                let size = message.decoder.size();
                if size > limit.saturating_mul(2) {
                    self.end_overlong();
                    return true;
                }
                match message.fate {
                    Fate::Keep if size <= limit => self.actions.push_back(Action::Body(bytes)),
                    Fate::Keep => self.spoil(replies::too_big()),
                    Fate::Refuse(_) => {}
                }
            }
            Some(Decoded::End) => {
                if let State::Chunk { message, last } = self.take_state() {
                    self.chunk_ended(message, last);
                }
            }
        }
        true
    }

    fn chunk_ended(&mut self, message: Chunked, last: Last) {
        match (message.fate, last) {
            (Fate::Refuse(why), Last::No) => {
                self.state = State::Spoiled;
                self.refuse(&why, Counts::No);
            }
            (Fate::Keep, Last::No) => {
                self.say(replies::NOOP);
                self.state = State::BetweenChunks(Chunked { fate: Fate::Keep, ..message });
            }
            (fate, Last::Yes) => {
                let flaws = message.decoder.flaws();
                self.body_ended(message.transaction, fate, flaws);
            }
        }
    }

    fn body_ended(&mut self, transaction: Transaction, fate: Fate, flaws: Flaws) {
        let fate = match fate {
            // Taking a bare CR or LF as a line end, here or at the next hop, lets mail be
            // smuggled. The decoder looks for none where the body is binary.
            Fate::Keep if flaws.has_bare_line_end() => {
                self.actions.push_back(Action::Aborted);
                Fate::Refuse(replies::bare_line_end())
            }
            other => other,
        };
        match fate {
            Fate::Keep => self.ask(Asked::Message(transaction), Question::Message { flaws }),
            Fate::Refuse(why) => self.refuse_message(&transaction, &why),
        }
    }

    /// Refuses a message: once, or over LMTP once for each accepted recipient (RFC 2033 §4.2).
    pub(super) fn refuse_message(&mut self, transaction: &Transaction, why: &Rejection) {
        self.state = State::Ready;
        for _ in 0..self.replies_to_message(transaction) {
            self.refuse(why, Counts::No);
        }
    }

    pub(super) fn replies_to_message(&self, transaction: &Transaction) -> u32 {
        match self.config.protocol {
            super::Protocol::Smtp => 1,
            super::Protocol::Lmtp => transaction.accepted,
        }
    }

    /// Reads a chunk that is refused in any case.
    pub(super) fn drop_chunk(
        &mut self,
        left: u64,
        why: Rejection,
        counts: Counts,
        then: AfterDrop,
    ) {
        self.state = State::Dropping { left, why, counts, then };
    }

    pub(super) fn proceed_dropping(&mut self) -> bool {
        let State::Dropping { left, .. } = &mut self.state else { return false };
        let take = usize::try_from(*left).map_or(self.input.len(), |l| l.min(self.input.len()));
        self.input.advance(take);
        *left -= take as u64;
        if *left > 0 {
            return false;
        }
        if let State::Dropping { why, counts, then, .. } = self.take_state() {
            self.state = match then {
                AfterDrop::Strange => State::Strange,
                AfterDrop::Ready => State::Ready,
                AfterDrop::Mail(transaction) => State::Mail(transaction),
                AfterDrop::Spoiled => State::Spoiled,
            };
            self.refuse(&why, counts);
        }
        true
    }

    /// From here on the message is read and dropped; `why` is said at its end.
    pub(super) fn spoil(&mut self, why: Rejection) {
        let fate = match &mut self.state {
            State::Data { fate, .. } => fate,
            State::Chunk { message, .. } | State::BetweenChunks(message) => &mut message.fate,
            _ => return,
        };
        if matches!(fate, Fate::Keep) {
            *fate = Fate::Refuse(why);
            self.actions.push_back(Action::Aborted);
        }
    }

    fn end_overlong(&mut self) {
        self.forget_input();
        self.end(&replies::closing(Status::MESSAGE_TOO_BIG, "message is far too big"));
    }

    pub(super) fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }
}
