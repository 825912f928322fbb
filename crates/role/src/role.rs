//! A role and the plugins it knows.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use merpati_plugin::deliver::SourceRests;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{Deliverer, Observer, OutboundPolicy, PolicyFactory, Table};

use crate::cli;
use crate::kind::Kind;

pub(crate) type MakePolicy = Box<dyn Fn(&Options) -> Result<Arc<dyn PolicyFactory>, Invalid>>;
pub(crate) type MakeOutbound = Box<dyn Fn(&Options) -> Result<Arc<dyn OutboundPolicy>, Invalid>>;
pub(crate) type MakeTable = Box<dyn Fn(&Options) -> Result<Arc<dyn Table>, Invalid>>;
pub(crate) type MakeTransport = Box<dyn Fn(&Options) -> Result<Arc<dyn Deliverer>, Invalid>>;

/// A server in the making: a role, and the plugins of your own that its configuration may name.
pub struct Role {
    pub(crate) kind: Kind,
    pub(crate) tables: BTreeMap<String, MakeTable>,
    pub(crate) policies: BTreeMap<String, MakePolicy>,
    pub(crate) outbound: BTreeMap<String, MakeOutbound>,
    pub(crate) transports: BTreeMap<String, MakeTransport>,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    /// Which sources rest where: as long as the process, whatever is read again.
    pub(crate) rests: Arc<SourceRests>,
}

impl Role {
    /// The submission server.
    #[must_use]
    pub fn submission() -> Self {
        Self::new(Kind::Submission)
    }

    /// The relay.
    #[must_use]
    pub fn relay() -> Self {
        Self::new(Kind::Relay)
    }

    /// The MX ingress.
    #[must_use]
    pub fn mx() -> Self {
        Self::new(Kind::Mx)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            tables: BTreeMap::new(),
            policies: BTreeMap::new(),
            outbound: BTreeMap::new(),
            transports: BTreeMap::new(),
            observers: Vec::new(),
            rests: Arc::default(),
        }
    }

    /// Lets a `[[table]]` of this kind mean this. A stock kind of the same name is replaced.
    #[must_use]
    pub fn table<T, M>(mut self, kind: &str, make: M) -> Self
    where
        T: Table + 'static,
        M: Fn(&Options) -> Result<T, Invalid> + 'static,
    {
        let make =
            move |options: &Options| make(options).map(|table| Arc::new(table) as Arc<dyn Table>);
        self.tables.insert(kind.to_owned(), Box::new(make));
        self
    }

    /// Lets `[[policy]] use = "name"` mean this. A stock policy of the same name is replaced.
    #[must_use]
    pub fn policy<P, M>(mut self, name: &str, make: M) -> Self
    where
        P: PolicyFactory + 'static,
        M: Fn(&Options) -> Result<P, Invalid> + 'static,
    {
        let make = move |options: &Options| {
            make(options).map(|policy| Arc::new(policy) as Arc<dyn PolicyFactory>)
        };
        self.policies.insert(name.to_owned(), Box::new(make));
        self
    }

    /// Lets `[[outbound]] use = "name"` mean this. A stock policy of the same name is replaced.
    #[must_use]
    pub fn outbound<P, M>(mut self, name: &str, make: M) -> Self
    where
        P: OutboundPolicy + 'static,
        M: Fn(&Options) -> Result<P, Invalid> + 'static,
    {
        let make = move |options: &Options| {
            make(options).map(|policy| Arc::new(policy) as Arc<dyn OutboundPolicy>)
        };
        self.outbound.insert(name.to_owned(), Box::new(make));
        self
    }

    /// Lets a `[[transport]]` of this kind mean this. A stock transport of the same name is
    /// replaced.
    #[must_use]
    pub fn transport<D, M>(mut self, kind: &str, make: M) -> Self
    where
        D: Deliverer + 'static,
        M: Fn(&Options) -> Result<D, Invalid> + 'static,
    {
        let make = move |options: &Options| {
            make(options).map(|transport| Arc::new(transport) as Arc<dyn Deliverer>)
        };
        self.transports.insert(kind.to_owned(), Box::new(make));
        self
    }

    /// Tells `observer` of everything that happens.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Reads the command line and does what it says: serves, or checks the configuration.
    #[must_use]
    pub fn main(self) -> ExitCode {
        cli::main(self)
    }
}
