//! The public traits of Merpati: policies, authenticators, spools, routers, deliverers, observers.
