//! Tests of the whole.

#[cfg(test)]
mod bounces;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod extension;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod outbound;
#[cfg(test)]
mod repeats;
mod road;
mod scripts;
#[cfg(test)]
mod smarthosts;
#[cfg(test)]
mod smuggling;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod start;
#[cfg(test)]
mod suppression;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tls_report;
