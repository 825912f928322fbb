//! What the server under test is, and how its questions are answered.

use std::str::FromStr;
use std::time::Duration;

use merpati_session::server::{
    Auth, Channel, Offer, Protocol, ServerConfig, Start, StartTls, XclientRight,
};
use merpati_types::{RejectCode, Rejection, Status, Timestamp};

use super::text::matches;

const LOGIN: &str = "alice@sender.test";
const PASSWORD: &str = "secret";

/// A kind of server. All know `alice@sender.test` with the password `secret`, where users matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Takes mail for `receiver.test` from anybody; offers STARTTLS. Any local part is known but
    /// those that begin with `nobody`.
    Mx,
    /// As `mx`, for anybody's mail; STARTTLS, then AUTH, are needed.
    Submission,
    /// Takes mail for anybody, without AUTH; offers STARTTLS.
    Relay,
    /// As `mx`, over LMTP.
    Lmtp,
}

impl Profile {
    /// Its name in scripts.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "mx" => Self::Mx,
            "submission" => Self::Submission,
            "relay" => Self::Relay,
            "lmtp" => Self::Lmtp,
            _ => return None,
        })
    }

    fn config(self) -> ServerConfig {
        let config = ServerConfig {
            hostname: "mail.test".to_owned(),
            starttls: StartTls::Offered,
            ..ServerConfig::default()
        };
        match self {
            Self::Mx | Self::Relay => config,
            Self::Submission => ServerConfig {
                starttls: StartTls::Required,
                auth: Auth::Required,
                mechanisms: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
                ..config
            },
            Self::Lmtp => ServerConfig { protocol: Protocol::Lmtp, ..config },
        }
    }
}

/// `set NAME VALUE`: one of `line`, `size`, `recipients`, `transactions`, `errors`,
/// `refused-recipients`, `pipelined` (numbers), `idle`, `body`, `session`, `greet-delay` (as
/// `5s`, `3m`, `1h`), `future-release` (a time, the longest hold), `deliver-by`, `mt-priority`
/// (`nobody`, `authenticated`, `anybody`), `tls` (`none`, `offered`, `required`, `implicit`), `auth` (`optional`,
/// `required`, `none`), `xclient` (`granted`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What.
    pub name: String,
    /// To what.
    pub value: String,
}

/// A setting, or a rule, that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(pub(super) &'static str);

/// The server under test.
#[derive(Clone, Debug)]
pub struct Setup {
    profile: Profile,
    /// The session's configuration.
    pub config: ServerConfig,
    /// How the session begins.
    pub start: Start,
    rules: Vec<Rule>,
    changed: bool,
}

impl Setup {
    pub(super) fn new(profile: Profile) -> Self {
        let start = Start {
            channel: Channel::Plain,
            xclient: XclientRight::Refused,
            time: Timestamp::from_millis(1_795_420_800_000),
        };
        Self { profile, config: profile.config(), start, rules: Vec::new(), changed: false }
    }

    /// Which kind of server it is.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether it is its profile, and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.changed && self.rules.is_empty()
    }

    pub(super) fn add_rule(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn set(&mut self, setting: &Setting) -> Result<(), SettingError> {
        self.changed = true;
        let value = setting.value.as_str();
        let limits = &mut self.config.limits;
        match setting.name.as_str() {
            "line" => limits.line = number(value)?,
            "size" => limits.message = number(value)?,
            "recipients" => limits.recipients = number(value)?,
            "transactions" => limits.transactions = number(value)?,
            "errors" => limits.errors = number(value)?,
            "refused-recipients" => limits.refused_recipients = number(value)?,
            "pipelined" => limits.pipelined = number(value)?,
            "idle" => limits.idle = duration(value)?,
            "body" => limits.body = duration(value)?,
            "session" => limits.session = duration(value)?,
            "greet-delay" => self.config.greet_delay = duration(value)?,
            "future-release" => self.config.extensions.future_release = Some(duration(value)?),
            "deliver-by" => self.config.extensions.deliver_by = offer(value)?,
            "mt-priority" => self.config.extensions.mt_priority = offer(value)?,
            "tls" => {
                (self.config.starttls, self.start.channel) = match value {
                    "none" => (StartTls::Absent, Channel::Plain),
                    "offered" => (StartTls::Offered, Channel::Plain),
                    "required" => (StartTls::Required, Channel::Plain),
                    "implicit" => (StartTls::Absent, Channel::Encrypted),
                    _ => return Err(SettingError("tls is none, offered, required or implicit")),
                }
            }
            "auth" => match value {
                "optional" => self.config.auth = Auth::Optional,
                "required" => self.config.auth = Auth::Required,
                "none" => {
                    self.config.auth = Auth::Optional;
                    self.config.mechanisms.clear();
                }
                _ => return Err(SettingError("auth is optional, required or none")),
            },
            "xclient" if value == "granted" => self.start.xclient = XclientRight::Granted,
            _ => return Err(SettingError("no such setting")),
        }
        Ok(())
    }

    /// What is said to a question of `stage` about `subject`.
    #[must_use]
    pub fn ruled(&self, stage: Stage, subject: &str) -> Ruled {
        let fits = |rule: &&Rule| rule.stage == stage && matches(&rule.subject, subject);
        match self.rules.iter().find(fits) {
            Some(rule) => rule.ruled.clone(),
            None => self.customary(stage, subject),
        }
    }

    /// What is said to a user and a password. A rule speaks for whoever it fits, whatever the
    /// password.
    #[must_use]
    pub fn login(&self, user: &str, password: &str) -> Ruled {
        let fits = |rule: &&Rule| rule.stage == Stage::Auth && matches(&rule.subject, user);
        match self.rules.iter().find(fits) {
            Some(rule) => rule.ruled.clone(),
            None if (user, password) == (LOGIN, PASSWORD) => Ruled::Accept,
            None => Ruled::Reject(Rejection::with(
                RejectCode::C535,
                Status::AUTH_FAILED,
                "authentication failed",
            )),
        }
    }

    fn customary(&self, stage: Stage, subject: &str) -> Ruled {
        let closed = matches!(self.profile, Profile::Mx | Profile::Lmtp);
        if stage != Stage::Rcpt || !closed {
            return Ruled::Accept;
        }
        let path = subject.trim_matches(['<', '>']).to_lowercase();
        match path.rsplit_once('@') {
            _ if path == "postmaster" || path.starts_with("postmaster@") => Ruled::Accept,
            Some((local, "receiver.test")) if local.starts_with("nobody") => {
                Ruled::Reject(Rejection::permanent(Status::NO_MAILBOX, "no such user"))
            }
            Some((_, "receiver.test")) => Ruled::Accept,
            _ => Ruled::Reject(Rejection::permanent(Status::POLICY, "relay access denied")),
        }
    }
}

fn offer(text: &str) -> Result<Offer, SettingError> {
    Ok(match text {
        "nobody" => Offer::Nobody,
        "authenticated" => Offer::Authenticated,
        "anybody" => Offer::Anybody,
        _ => return Err(SettingError("an extension is for nobody, authenticated or anybody")),
    })
}

fn number<N: FromStr>(text: &str) -> Result<N, SettingError> {
    text.parse().map_err(|_| SettingError("a number is needed"))
}

/// `301s`, `5m`, `6h`, `20ms`.
pub(super) fn duration(text: &str) -> Result<Duration, SettingError> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let count: u64 = number(digits)?;
    Ok(match &text[digits.len()..] {
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        "m" => Duration::from_secs(60 * count),
        "h" => Duration::from_secs(3_600 * count),
        _ => return Err(SettingError("a time is a number with ms, s, m or h")),
    })
}

/// `? STAGE SUBJECT -> VERDICT`.
///
/// The subject is a pattern: `early` or nothing for `connect`, the name for `hello`, the user for
/// `auth`, the path in brackets for `mail`, `rcpt` and, over LMTP, `deliver`; `data` and
/// `message` have none. The verdict is `accept`, a refusal such as `550 5.1.1 no such user`, or
/// `disconnect` with a refusal. The first rule that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    stage: Stage,
    subject: String,
    ruled: Ruled,
}

impl Rule {
    pub(super) fn parse(text: &str) -> Result<Self, SettingError> {
        let (about, verdict) =
            text.split_once("->").ok_or(SettingError("a rule is STAGE SUBJECT -> VERDICT"))?;
        let (stage, subject) = match about.trim().split_once(' ') {
            Some((stage, subject)) => (stage, subject.trim()),
            None => (about.trim(), ""),
        };
        let stage = Stage::named(stage).ok_or(SettingError("no such stage"))?;
        let verdict = verdict.trim();
        let ruled = match verdict.strip_prefix("disconnect ") {
            Some(refusal) => Ruled::Disconnect(rejection(refusal)?),
            None if verdict == "accept" => Ruled::Accept,
            None => Ruled::Reject(rejection(verdict)?),
        };
        Ok(Self { stage, subject: subject.to_owned(), ruled })
    }
}

fn rejection(text: &str) -> Result<Rejection, SettingError> {
    let wrong = SettingError("a refusal is such as `550 5.1.1 no such user`");
    let mut words = text.splitn(3, ' ');
    let mut word = || words.next().ok_or(wrong);
    let code = RejectCode::from_u16(number(word()?)?).ok_or(wrong)?;
    let mut digits = word()?.splitn(3, '.');
    let mut digit = || number::<u16>(digits.next().unwrap_or_default());
    let class = digit()?;
    let status = Status::new(digit()?, digit()?).map_err(|_| wrong)?;
    if class != code.as_u16() / 100 {
        return Err(wrong);
    }
    Ok(Rejection::with(code, status, word()?))
}

/// Where a question comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection.
    Connect,
    /// Hello.
    Hello,
    /// A user and a password that fit.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, or the first chunk.
    Data,
    /// The message.
    Message,
    /// The message, for one recipient over LMTP.
    Deliver,
}

impl Stage {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "connect" => Self::Connect,
            "hello" => Self::Hello,
            "auth" => Self::Auth,
            "mail" => Self::Mail,
            "rcpt" => Self::Rcpt,
            "data" => Self::Data,
            "message" => Self::Message,
            "deliver" => Self::Deliver,
            _ => return None,
        })
    }
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruled {
    /// Yes.
    Accept,
    /// No.
    Reject(Rejection),
    /// No, and good-bye.
    Disconnect(Rejection),
}
