//! Both sides, and the server of another implementation.

use merpati_types::Secret;

use super::*;
use crate::server::{self, Step};

fn credentials() -> Credentials {
    Credentials::password("tim", Secret::new("x".to_owned())).unwrap()
}

fn open() -> Channel<'static> {
    Channel::Encrypted { binding: None, server_binds: false }
}

#[test]
fn both_sides_understand_each_other() {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let mut client = Exchange::new(mechanism, &credentials(), &open(), &[]).unwrap();
        let (mut server, mut step) = server::Exchange::start(mechanism, client.initial());
        while let Step::Challenge(challenge) = &step {
            step = server.respond(client.respond(challenge).unwrap());
        }
        let Step::Check(claim) = step else { panic!("{mechanism}: {step:?}") };
        assert_eq!((claim.user.as_str(), claim.password.expose().as_str()), ("tim", "x"));
        assert_eq!(client.respond(b""), Err(ExchangeError::UnexpectedChallenge));
        assert_eq!(client.finish(), Ok(()));
    }
}

#[test]
fn credentials_have_to_fit_the_mechanism() {
    let token = Credentials::token("tim", Secret::new("x".to_owned())).unwrap();
    for mechanism in Mechanism::ALL {
        let binding = Binding::new(BindingKind::TlsExporter, vec![0; 32]);
        let channel = Channel::Encrypted { binding: Some(&binding), server_binds: true };
        let by_token = matches!(mechanism, Mechanism::OauthBearer | Mechanism::Xoauth2);
        let fits =
            |credentials| Exchange::new(mechanism, credentials, &channel, &[7; 16]).is_some();
        assert_eq!((fits(&credentials()), fits(&token)), (!by_token, by_token), "{mechanism}");
        let shown = format!("{:?}", Exchange::new(mechanism, &token, &channel, &[7; 16]));
        assert!(!shown.contains("\"x\""), "{shown}");
    }
}

/// Another implementation's server, which knows tim by the password or the token `pencil`.
mod outside {
    use std::io::Cursor;
    use std::sync::Arc;

    use rsasl::callback::{Context, Request, SessionCallback, SessionData};
    use rsasl::config::SASLConfig;
    use rsasl::mechanisms::oauthbearer::properties::{OAuthBearerError, OAuthBearerValidate};
    use rsasl::mechanisms::scram::properties::ScramStoredPassword;
    use rsasl::mechanisms::xoauth2::properties::XOAuth2Validate;
    use rsasl::mechname::Mechname;
    use rsasl::prelude::{SASLServer, SessionError, State, Validation};
    use rsasl::property::{AuthId, AuthzId, OAuthBearerToken};
    use rsasl::validate::{Validate, ValidationError};

    use super::super::hash::Hash;
    use super::*;

    struct Known(Hash);

    struct Name;

    impl Validation for Name {
        type Value = String;
    }

    impl SessionCallback for Known {
        fn callback(
            &self,
            _: &SessionData,
            context: &Context<'_>,
            request: &mut Request<'_>,
        ) -> Result<(), SessionError> {
            let Self(hash) = self;
            let (salt, iterations) = (b"bad salt", 5_000);
            let salted = hash.salted(b"pencil", salt, iterations);
            let stored = hash.digest(&hash.hmac(&salted, b"Client Key"));
            let server = hash.hmac(&salted, b"Server Key");
            // With OAUTHBEARER it hands on the scheme, too.
            let token = context.get_ref::<OAuthBearerToken>();
            let good = matches!(token, Some("pencil" | "Bearer pencil"));
            request.satisfy::<ScramStoredPassword<'static>>(&ScramStoredPassword::new(
                iterations, salt, &stored, &server,
            ))?;
            let refused = OAuthBearerError::new("invalid_token", None, None);
            request.satisfy::<OAuthBearerValidate>(&if good { Ok(()) } else { Err(refused) })?;
            let refused = "{\"status\":\"401\"}";
            request.satisfy::<XOAuth2Validate>(&if good { Ok(()) } else { Err(refused) })?;
            Ok(())
        }

        fn validate(
            &self,
            _: &SessionData,
            context: &Context<'_>,
            validate: &mut Validate<'_>,
        ) -> Result<(), ValidationError> {
            let name = context.get_ref::<AuthId>().or(context.get_ref::<AuthzId>());
            validate.with::<Name, _>(|| Ok(name.unwrap_or_default().to_owned()))?;
            Ok(())
        }
    }

    fn run(mechanism: Mechanism, secret: &str) -> String {
        let hash = match mechanism {
            Mechanism::ScramSha1 => Hash::Sha1,
            _ => Hash::Sha256,
        };
        let config = SASLConfig::builder().with_defaults().with_callback(Known(hash)).unwrap();
        let server = SASLServer::<Name>::new(Arc::clone(&config));
        let name = Mechname::parse(mechanism.name().as_bytes()).unwrap();
        let mut server = server.start_suggested(name).unwrap();
        let secret = Secret::new(secret.to_owned());
        let credentials = match mechanism {
            Mechanism::Xoauth2 | Mechanism::OauthBearer => Credentials::token("tim", secret),
            _ => Credentials::password("tim", secret),
        };
        let mut client =
            Exchange::new(mechanism, &credentials.unwrap(), &open(), &[7; 18]).unwrap();
        let mut response = client.initial().unwrap();
        loop {
            let mut challenge = Cursor::new(Vec::new());
            let state = match server.step(Some(&response), &mut challenge) {
                Ok(state) => state,
                Err(error) => return format!("server: {error}"),
            };
            let challenge = challenge.into_inner();
            if !challenge.is_empty() {
                match client.respond(&challenge) {
                    Ok(next) => response = next,
                    Err(error) => return format!("client: {error}"),
                }
            }
            if let State::Finished(_) = state {
                let status = client.token_status().unwrap_or("-");
                let finished = client.finish().is_ok();
                return format!("{} {finished} {status}", server.validation().unwrap_or_default());
            }
        }
    }

    #[test]
    fn another_server_understands_us() {
        let check = |mechanism, secret, expected: &str| {
            assert_eq!(run(mechanism, secret), expected, "{mechanism} {secret}");
        };
        check(Mechanism::ScramSha256, "pencil", "tim true -");
        check(Mechanism::ScramSha1, "pencil", "tim true -");
        let refused = "client: the server refuses: invalid-proof";
        check(Mechanism::ScramSha256, "pen", refused);
        check(Mechanism::ScramSha1, "pen", refused);
        check(Mechanism::Xoauth2, "pencil", "tim true -");
        check(Mechanism::Xoauth2, "pen", "tim true 401");
        check(Mechanism::OauthBearer, "pencil", "tim true -");
        check(Mechanism::OauthBearer, "pen", "tim true invalid_token");
    }
}
