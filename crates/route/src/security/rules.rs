//! The decision, before anybody connects.

use merpati_types::{Domain, Host, Severity, Status};

use super::{
    Asked, Destination, Failure, MailHost, Need, Override, Route, Security, Source, Trial,
};
use crate::dnssec::DnsState;
use crate::mta_sts::{FetchFault, Mode, Policy, Sts};
use crate::tls_rpt::{Fault, PolicyType, ResultType};
use crate::tlsa::{Dane, Tlsa};

pub(super) fn decide(destination: &Destination<'_>, host: &MailHost<'_>) -> Security {
    let case = Case { to: destination, at: host };
    // Without hosts and addresses that hold there is nobody to negotiate with.
    if destination.route == Route::Mx(DnsState::Bogus) {
        let text = format!("the MX records of {} cannot be validated", destination.domain);
        return case.bogus(Status::DIRECTORY, text);
    }
    if host.addresses == DnsState::Bogus {
        let text = format!("the addresses of {} cannot be validated", host.host);
        return case.bogus(Status::DIRECTORY, text);
    }
    match (destination.wanted, destination.asked) {
        // RFC 8689 §4.2.1 wants to know the host for sure, and a key handed over does better
        // than names.
        (Some(pinned @ Override::Pinned(_)), _) => case.configured(pinned),
        (wanted, Asked::RequireTls) => case.require_tls(wanted),
        (Some(wanted), _) => case.configured(wanted),
        (None, Asked::NoTls) => {
            let why = "the message says TLS-Required: No".to_owned();
            case.need(Need::Opportunistic, Source::Opportunistic, why)
        }
        (None, Asked::Nothing) => case.by_policy(),
    }
}

struct Case<'c> {
    to: &'c Destination<'c>,
    at: &'c MailHost<'c>,
}

impl Case<'_> {
    /// RFC 8689 §4.2.1: the host is known for sure, by signed MX records or an MTA-STS policy,
    /// and so is who answers there.
    fn require_tls(&self, wanted: Option<&Override>) -> Security {
        match (wanted, self.at.dane) {
            (Some(Override::None), _) => {
                return self.require_tls_fails("TLS is switched off for it", Source::Configured);
            }
            (Some(Override::Dane), _) => return self.dane_only(),
            (Some(Override::Verify), _) => {}
            (_, Dane::Bogus(_)) => return self.bogus_tlsa(),
            (_, Dane::Usable(records)) if self.is_route_sure() => return self.dane(records),
            _ => {}
        }
        let source = match wanted {
            Some(Override::Verify) => Source::Configured,
            _ => Source::RequireTls,
        };
        let mut security = match self.policy() {
            Some(policy) if self.allows(policy) => {
                let enforced = policy.mode == Mode::Enforce && source != Source::Configured;
                let source = if enforced { Source::MtaSts } else { source };
                self.web_pki(source, "the MTA-STS policy allows the host")
            }
            Some(policy) if policy.mode == Mode::Enforce && wanted.is_none() => {
                self.require_tls_fails("its MTA-STS policy does not allow the host", Source::MtaSts)
            }
            _ if self.is_route_sure() => self.web_pki(source, "the host is known for sure"),
            _ => self.require_tls_fails("its MX records are not signed", Source::RequireTls),
        };
        if wanted.is_none() {
            self.add_findings(&mut security);
        }
        security
    }

    fn configured(&self, wanted: &Override) -> Security {
        let plain = |need, why: &str| self.need(need, Source::Configured, why.to_owned());
        match wanted {
            Override::None => plain(Need::Clear, "no TLS"),
            Override::May => plain(Need::Opportunistic, "TLS if it can be had"),
            Override::Encrypt => plain(Need::Encrypted, "TLS with whomever"),
            Override::Dane => self.dane_only(),
            Override::Verify => plain(Need::WebPki(self.at.host.clone()), "a valid certificate"),
            Override::Pinned(pins) => {
                let need = Need::Pinned { pins: pins.clone(), name: self.at.host.clone() };
                plain(need, &count(pins.len(), "pinned key"))
            }
        }
    }

    /// DANE is configured, and nothing else will do.
    fn dane_only(&self) -> Security {
        let missing = match self.at.dane {
            Dane::Bogus(_) => return self.bogus_tlsa(),
            Dane::Usable(records) if self.is_route_sure() => {
                return Security { source: Source::Configured, ..self.dane(records) };
            }
            Dane::Usable(_) => "its MX records are not signed",
            Dane::Unusable(_) => "none of its TLSA records can be used",
            Dane::NotSecure | Dane::NoRecords => "it has no signed TLSA records",
        };
        let text = format!("DANE is configured for {}, and {missing}", self.at.host);
        let mut security =
            self.skip(Severity::Transient, Status::SECURITY, text, Source::Configured);
        let result = ResultType::DaneRequired;
        security.faults.push(Fault { policy: PolicyType::Tlsa, result });
        security
    }

    fn by_policy(&self) -> Security {
        let mut security = match (self.at.dane, self.policy()) {
            (Dane::Bogus(_), _) => self.bogus_tlsa(),
            // RFC 8461 §2: MTA-STS never takes precedence over DANE.
            (Dane::Usable(records), _) if self.is_route_sure() => self.dane(records),
            (_, Some(policy)) if policy.mode == Mode::Enforce => self.enforce(policy),
            (Dane::Usable(records), _) => self.dane(records),
            (Dane::Unusable(why), _) => {
                let why = format!("{} that cannot be used", count(why.len(), "TLSA record"));
                self.need(Need::Encrypted, Source::Dane, why)
            }
            (Dane::NotSecure | Dane::NoRecords, _) => {
                let why = "no policy asks for more".to_owned();
                self.need(Need::Opportunistic, Source::Opportunistic, why)
            }
        };
        self.add_findings(&mut security);
        security
    }

    fn enforce(&self, policy: &Policy) -> Security {
        if self.allows(policy) {
            return self.web_pki(Source::MtaSts, "its policy is enforced, and allows the host");
        }
        let text =
            format!("the MTA-STS policy of {} does not allow {}", self.to.domain, self.at.host);
        let mut security = self.skip(Severity::Transient, Status::SECURITY, text, Source::MtaSts);
        let result = ResultType::ValidationFailure;
        security.faults.push(Fault { policy: PolicyType::Sts, result });
        security
    }

    /// What is reported besides: a policy that is only tried out, or could not be had, and TLSA
    /// records that are of no use.
    fn add_findings(&self, security: &mut Security) {
        if matches!(self.at.dane, Dane::Unusable(_)) {
            let result = ResultType::TlsaInvalid;
            security.faults.push(Fault { policy: PolicyType::Tlsa, result });
        }
        match self.to.sts {
            Sts::Policy(policy) if policy.mode == Mode::Testing => {
                let allowed = self.allows(policy);
                let trial = allowed.then(|| Trial::Allowed(self.at.host.clone()));
                security.trial = Some(trial.unwrap_or(Trial::NotAllowed));
            }
            Sts::Unfetchable(fault) => {
                let result = match fault {
                    FetchFault::Unreachable => ResultType::StsPolicyFetchError,
                    FetchFault::Certificate => ResultType::StsWebpkiInvalid,
                    FetchFault::Invalid => ResultType::StsPolicyInvalid,
                };
                security.faults.push(Fault { policy: PolicyType::Sts, result });
            }
            Sts::Policy(_) | Sts::NoPolicy | Sts::Expired => {}
        }
    }

    /// The policy that says something.
    fn policy(&self) -> Option<&Policy> {
        match self.to.sts {
            Sts::Policy(policy) if policy.mode != Mode::None => Some(policy),
            _ => None,
        }
    }

    fn allows(&self, policy: &Policy) -> bool {
        match self.at.host {
            Host::Domain(host) => policy.allows(host),
            Host::Literal(_) => false,
        }
    }

    /// Whether the host is known to be the destination's: not by records that anybody could have
    /// made up, or by its very name.
    fn is_route_sure(&self) -> bool {
        match self.to.route {
            Route::Direct | Route::Mx(DnsState::Secure) => true,
            Route::Mx(DnsState::Insecure | DnsState::Bogus) => self.at.host == self.to.domain,
        }
    }

    fn need(&self, need: Need, source: Source, why: String) -> Security {
        let asked = self.to.asked;
        Security { need, source, why, asked, trial: None, faults: Vec::new() }
    }

    fn dane(&self, records: &[Tlsa]) -> Security {
        let need = Need::Dane { records: records.to_vec(), names: self.dane_names() };
        let mut why = count(records.len(), "usable TLSA record");
        if !self.is_route_sure() {
            why.push_str(", though the MX records are not signed");
        }
        self.need(need, Source::Dane, why)
    }

    /// RFC 7672 §3.2.2. Names of the destination count only where signed records lead from it to
    /// the host: otherwise they would let a forger choose among more hosts.
    fn dane_names(&self) -> Vec<Host> {
        let mut names: Vec<Host> = Vec::with_capacity(4);
        let mut add = |name: Host| {
            if !names.contains(&name) {
                names.push(name);
            }
        };
        let domain = |name: &Domain| Host::Domain(name.clone());
        self.at.base.map(domain).into_iter().for_each(&mut add);
        add(self.at.host.clone());
        if self.is_route_sure() {
            add(self.to.domain.clone());
            self.to.expanded.map(domain).into_iter().for_each(&mut add);
        }
        names
    }

    fn web_pki(&self, source: Source, why: &str) -> Security {
        self.need(Need::WebPki(self.at.host.clone()), source, why.to_owned())
    }

    fn skip(&self, severity: Severity, status: Status, text: String, by: Source) -> Security {
        let why = text.clone();
        self.need(Need::SkipHost(Failure { severity, status, text }), by, why)
    }

    fn bogus(&self, status: Status, text: String) -> Security {
        let mut security = self.skip(Severity::Transient, status, text, Source::Dane);
        let result = ResultType::DnssecInvalid;
        security.faults.push(Fault { policy: PolicyType::Tlsa, result });
        security
    }

    fn bogus_tlsa(&self) -> Security {
        let text = format!("the TLSA records of {} cannot be validated", self.at.host);
        self.bogus(Status::SECURITY, text)
    }

    /// RFC 8689 §4.2.1: what cannot be sent as the sender wants it goes back.
    fn require_tls_fails(&self, because: &str, by: Source) -> Security {
        let domain = self.to.domain;
        let text = format!("the sender requires TLS all the way to {domain}, but {because}");
        self.skip(Severity::Permanent, Status::REQUIRETLS, text, by)
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
