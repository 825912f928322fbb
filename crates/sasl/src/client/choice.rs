//! Which mechanism is spoken.

use crate::mechanism::Mechanism;

use super::credentials::Credentials;
use super::scram::Binding;

/// What the messages go over.
#[derive(Clone, Copy, Debug)]
pub enum Channel<'a> {
    /// Nobody else can read it.
    Encrypted {
        /// What names this channel and no other, if that can be told.
        binding: Option<&'a Binding>,
        /// Whether the server offers a mechanism that binds.
        server_binds: bool,
    },
    /// Anybody on the way can read it.
    Clear(InClear),
}

/// What may go over a channel that others can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InClear {
    /// Nothing: who listens can try passwords against what is heard.
    #[default]
    Nothing,
    /// Mechanisms that do not show the password.
    Challenges,
}

impl<'a> Channel<'a> {
    /// An encrypted channel to a server that offers these mechanisms.
    #[must_use]
    pub fn encrypted<S: AsRef<str>>(offered: &[S], binding: Option<&'a Binding>) -> Self {
        let binds = |name: &S| name.as_ref().to_ascii_uppercase().ends_with("-PLUS");
        Self::Encrypted { binding, server_binds: offered.iter().any(binds) }
    }

    fn takes(&self, mechanism: Mechanism) -> bool {
        let binds = matches!(mechanism, Mechanism::ScramSha256Plus | Mechanism::ScramSha1Plus);
        match self {
            Self::Encrypted { binding, .. } => binding.is_some() || !binds,
            Self::Clear(InClear::Challenges) => !binds && !mechanism.shows_secret(),
            Self::Clear(InClear::Nothing) => false,
        }
    }
}

/// The strongest mechanism that the server offers, the credentials allow, the channel can bear,
/// and `allowed` names; an empty `allowed` names all.
#[must_use]
pub fn choose<S: AsRef<str>>(
    offered: &[S],
    credentials: &Credentials,
    channel: &Channel<'_>,
    allowed: &[Mechanism],
) -> Option<Mechanism> {
    let offers = |mechanism: &Mechanism| {
        offered.iter().any(|name| name.as_ref().eq_ignore_ascii_case(mechanism.name()))
    };
    let fits = |mechanism: &Mechanism| {
        let by_token = matches!(mechanism, Mechanism::OauthBearer | Mechanism::Xoauth2);
        by_token == matches!(credentials, Credentials::Token { .. })
    };
    Mechanism::ALL.into_iter().find(|mechanism| {
        (allowed.is_empty() || allowed.contains(mechanism))
            && fits(mechanism)
            && channel.takes(*mechanism)
            && offers(mechanism)
    })
}

#[cfg(test)]
mod tests {
    use merpati_types::Secret;

    use super::*;
    use crate::client::BindingKind;

    #[test]
    fn the_strongest_that_may_be_spoken_is_chosen() {
        let secret = || Secret::new("x".to_owned());
        let password = Credentials::password("tim", secret()).unwrap();
        let token = Credentials::token("tim", secret()).unwrap();
        let binding = Binding::new(BindingKind::TlsExporter, vec![1; 32]);
        let check = |offered: &str, allowed: &[Mechanism], expected: [&str; 5]| {
            let offered: Vec<_> = offered.split(' ').collect();
            let chosen = |credentials, channel: Channel<'_>| {
                let chosen = choose(&offered, credentials, &channel, allowed);
                chosen.map_or("-", Mechanism::name)
            };
            let plain = Channel::encrypted(&offered, None);
            let found = [
                chosen(&password, Channel::encrypted(&offered, Some(&binding))),
                chosen(&password, plain),
                chosen(&password, Channel::Clear(InClear::Challenges)),
                chosen(&password, Channel::Clear(InClear::Nothing)),
                chosen(&token, plain),
            ];
            assert_eq!(found, expected, "{offered:?}");
        };
        let (s256, s1) = ("SCRAM-SHA-256", "SCRAM-SHA-1");
        check("PLAIN LOGIN", &[], ["PLAIN", "PLAIN", "-", "-", "-"]);
        check("login", &[], ["LOGIN", "LOGIN", "-", "-", "-"]);
        check("LOGIN PLAIN CRAM-MD5", &[], ["CRAM-MD5", "CRAM-MD5", "CRAM-MD5", "-", "-"]);
        check("LOGIN CRAM-MD5", &[Mechanism::Login], ["LOGIN", "LOGIN", "-", "-", "-"]);
        check("PLAIN SCRAM-SHA-1 SCRAM-SHA-256", &[], [s256, s256, s256, "-", "-"]);
        check("SCRAM-SHA-1-PLUS SCRAM-SHA-256", &[], ["SCRAM-SHA-1-PLUS", s256, s256, "-", "-"]);
        check("SCRAM-SHA-1 SCRAM-SHA-256", &[Mechanism::ScramSha1], [s1, s1, s1, "-", "-"]);
        check("PLAIN XOAUTH2", &[], ["PLAIN", "PLAIN", "-", "-", "XOAUTH2"]);
        check("XOAUTH2 OAUTHBEARER", &[], ["-", "-", "-", "-", "OAUTHBEARER"]);
        check("GSSAPI NTLM", &[], ["-"; 5]);
    }
}
