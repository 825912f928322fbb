//! What the RFCs say becomes of a message: read from them, and from nothing of ours.

use super::made::Shown;

/// What the DNS says of a host's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// A DANE-EE record for what the host presents: names and dates do not count.
    EndEntity,
    /// A DANE-TA record for the authority.
    TrustAnchor,
    /// A record of a usage that SMTP does not know.
    Unusable,
    /// The MX record's signature does not hold.
    BogusMx,
    /// The address's signature does not hold.
    BogusAddress,
    /// The TLSA record's signature does not hold.
    BogusTlsa,
    /// Everything is signed, and there are no records.
    None,
    /// The MX record is not signed, and there are no records.
    Unsigned,
}

impl Keys {
    pub(super) const ALL: [Self; 8] = [
        Self::EndEntity,
        Self::TrustAnchor,
        Self::Unusable,
        Self::BogusMx,
        Self::BogusAddress,
        Self::BogusTlsa,
        Self::None,
        Self::Unsigned,
    ];

    fn bogus(self) -> bool {
        matches!(self, Self::BogusMx | Self::BogusAddress | Self::BogusTlsa)
    }
}

/// What MTA-STS says of the domain; a policy allows the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sts {
    Enforce,
    Testing,
    None,
    Expired,
    Unfetchable,
}

impl Sts {
    pub(super) const ALL: [Self; 5] =
        [Self::Enforce, Self::Testing, Self::None, Self::Expired, Self::Unfetchable];
}

/// What the sender asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// REQUIRETLS, of a host that offers it or not.
    RequireTls {
        offered: bool,
    },
}

impl Wish {
    pub(super) const ALL: [Self; 3] =
        [Self::Nothing, Self::RequireTls { offered: true }, Self::RequireTls { offered: false }];
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) keys: Keys,
    pub(super) sts: Sts,
    pub(super) shown: Shown,
    pub(super) wish: Wish,
}

/// `tls`, `clear`, `waits 4.x.y` or `bounces 5.x.y`.
pub(super) fn outcome(case: Case) -> &'static str {
    let Case { keys, sts, shown, wish } = case;
    // RFC 7672 §2.1.1: what is bogus is an error for now, whatever else is known.
    match keys {
        Keys::BogusMx | Keys::BogusAddress => return "waits 4.4.3",
        Keys::BogusTlsa => return "waits 4.7.0",
        _ => {}
    }
    let tls = shown != Shown::NoTls;
    // Of an authority we know, for this name, today (RFC 5280, RFC 6125).
    let valid = shown == Shown::Good;
    let authentic = match keys {
        Keys::EndEntity => tls,
        // RFC 7672 §3.1.2: the name and the dates count; the self-signed one has no such issuer.
        Keys::TrustAnchor => shown == Shown::Good,
        _ => valid,
    };
    if let Wish::RequireTls { offered } = wish {
        // RFC 8689 §4.2.1: the host must be known by DNSSEC or by an MTA-STS policy,
        let known = keys != Keys::Unsigned || matches!(sts, Sts::Enforce | Sts::Testing);
        // it must prove to be it, and promise to go on so.
        return match (known, authentic, offered) {
            (false, ..) => "bounces 5.7.30",
            (_, false, _) => "bounces 5.7.10",
            (.., false) => "bounces 5.7.30",
            (true, true, true) => "tls",
        };
    }
    let fails = if tls { "waits 4.7.5" } else { "waits 4.7.4" };
    let enforced = sts == Sts::Enforce;
    match keys {
        // RFC 8461 §2: a policy does not override DANE.
        Keys::EndEntity | Keys::TrustAnchor if authentic => "tls",
        Keys::EndEntity | Keys::TrustAnchor => fails,
        _ if enforced && valid => "tls",
        _ if enforced => fails,
        // RFC 7672 §2.2: TLS, with whomever.
        Keys::Unusable if tls => "tls",
        Keys::Unusable => fails,
        // RFC 7435.
        _ if tls => "tls",
        _ => "clear",
    }
}

/// What a report tells the domain, `policy result` each, sorted; where the sender asks for nothing.
pub(super) fn faults(case: Case) -> Vec<&'static str> {
    let Case { keys, sts, shown, .. } = case;
    let mut faults = Vec::new();
    if matches!(keys, Keys::BogusMx | Keys::BogusAddress) {
        return vec!["tlsa dnssec-invalid"];
    }
    if keys == Keys::BogusTlsa {
        faults.push("tlsa dnssec-invalid");
    }
    if keys == Keys::Unusable {
        faults.push("tlsa tlsa-invalid");
    }
    if sts == Sts::Unfetchable {
        faults.push("sts sts-policy-fetch-error");
    }
    let dane = matches!(keys, Keys::EndEntity | Keys::TrustAnchor);
    // A policy counts where it is enforced and nothing goes before it, or tried out.
    let sts_counts =
        sts == Sts::Testing && !keys.bogus() || sts == Sts::Enforce && !dane && !keys.bogus();
    if sts_counts {
        faults.extend(match shown {
            Shown::Good => None,
            Shown::WrongName => Some("sts certificate-host-mismatch"),
            Shown::Expired => Some("sts certificate-expired"),
            Shown::SelfSigned => Some("sts certificate-not-trusted"),
            Shown::NoTls => Some("sts starttls-not-supported"),
        });
    }
    match (keys, shown) {
        (Keys::EndEntity | Keys::TrustAnchor, Shown::NoTls) => {
            faults.push("tlsa starttls-not-supported");
        }
        (Keys::Unusable, Shown::NoTls) if sts != Sts::Enforce => {
            faults.push("tlsa starttls-not-supported");
        }
        (Keys::TrustAnchor, Shown::WrongName) => faults.push("tlsa certificate-host-mismatch"),
        (Keys::TrustAnchor, Shown::Expired) => faults.push("tlsa certificate-expired"),
        (Keys::TrustAnchor, Shown::SelfSigned) => faults.push("tlsa certificate-not-trusted"),
        (Keys::None | Keys::Unsigned, Shown::NoTls) if !sts_counts => {
            faults.push("no-policy-found starttls-not-supported");
        }
        _ => {}
    }
    faults.sort_unstable();
    faults
}
