//! Where proxies and clients connect to: addresses of runtimes, literal addresses, and names that are looked up.
//!
//! A lookup blocks in the system's resolver, so each runs in a short-lived thread of its own. Must not know: who dials.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::Manager;
use crate::error::OperatorError;
use crate::id::RuntimeKind;
use crate::limits::{LOOKUP_AGAIN_MS, LOOKUP_MS, LOOKUP_REFRESH_MS};
use crate::log::LogLevel;
use crate::net::dial::Target;
use crate::runtime::config::{backend_of, backend_parts};
use crate::runtime::message::{Letter, ToWorker};
use crate::runtime::{Address, Backend, RuntimeConfig};

/// A lookup's outcome.
pub struct Resolved {
    request: u64,
    target: Target,
    result: Result<Vec<Address>, OperatorError>,
}

impl Letter for Resolved {
    fn loose_bytes(&self) -> Option<usize> {
        None
    }
}

/// Addresses of names, as last looked up.
#[derive(Default)]
pub(super) struct Names {
    found: BTreeMap<Target, Vec<Address>>,
    retrying: bool,
    refreshing: bool,
}

impl Manager {
    /// Looks up all names in the runtimes' backends and targets and goes on when that is done, or takes too long:
    /// a name that can't be found stays empty and is tried again.
    pub(super) fn resolve(
        &mut self,
        configs: &[Arc<RuntimeConfig>],
        then: impl FnOnce(&mut Manager) + 'static,
    ) {
        let mut targets: Vec<Target> = configs.iter().flat_map(|config| lookups(config)).collect();
        targets.sort();
        targets.dedup();
        let request =
            self.expect_replies(LOOKUP_MS, targets.len(), move |manager, _| then(manager));
        if !targets.is_empty() {
            self.refresh_names_later();
        }
        for target in targets {
            self.look_up(request, target);
        }
    }

    /// Names move: those that running runtimes dial are looked up again from time to time.
    fn refresh_names_later(&mut self) {
        if std::mem::replace(&mut self.names.refreshing, true) {
            return;
        }
        self.after(LOOKUP_REFRESH_MS, |manager| {
            manager.names.refreshing = false;
            if manager.is_ending() {
                return;
            }
            let running = manager.runtimes.values().filter(|runtime| runtime.is_running());
            let named = running.filter(|runtime| !lookups(&runtime.config).is_empty());
            let names: Vec<String> = named.map(|runtime| runtime.name().to_owned()).collect();
            for name in names {
                manager.refresh_backends(&name);
            }
        });
    }

    fn look_up(&mut self, request: u64, target: Target) {
        let inbox = Arc::clone(&self.setup.resolved);
        let name = target.clone();
        let looking = move || {
            let result = target.resolve();
            inbox.send(Resolved { request, target, result });
        };
        if let Err(error) = std::thread::Builder::new().name("lookup".to_owned()).spawn(looking) {
            let failed = OperatorError::failed(format!("can't look up {name}: {error}"));
            self.setup.resolved.send(Resolved { request, target: name, result: Err(failed) });
        }
    }

    /// A lookup has ended.
    pub(super) fn on_resolved(&mut self, resolved: Resolved) {
        let Resolved { request, target, result } = resolved;
        match result {
            Ok(addresses) => {
                self.names.found.insert(target, addresses);
            }
            Err(error) => {
                if !self.names.found.contains_key(&target) {
                    self.log(LogLevel::Warn, "", error.message);
                    self.retry_lookups();
                }
            }
        }
        self.on_reply(request, None);
    }

    /// Tries the names again that running runtimes need and that have no address.
    fn retry_lookups(&mut self) {
        if std::mem::replace(&mut self.names.retrying, true) {
            return;
        }
        self.after(LOOKUP_AGAIN_MS, |manager| {
            manager.names.retrying = false;
            let lacking: Vec<String> = manager
                .runtimes
                .values()
                .filter(|runtime| runtime.is_running())
                .filter(|runtime| {
                    manager.backends(&runtime.config).iter().any(|b| b.addresses.is_empty())
                })
                .map(|runtime| runtime.name().to_owned())
                .collect();
            for name in lacking {
                manager.refresh_backends(&name);
            }
        });
    }

    /// Looks a running runtime's backends up again and tells its workers.
    pub(super) fn refresh_backends(&mut self, name: &str) {
        let Some(runtime) = self.runtimes.get(name).filter(|runtime| runtime.is_running()) else {
            return;
        };
        let (name, configs) = (name.to_owned(), [Arc::clone(&runtime.config)]);
        self.resolve(&configs, move |manager| {
            let Some(runtime) = manager.runtimes.get(&name).filter(|r| r.is_running()) else {
                return;
            };
            let placement = manager.placement(runtime);
            let workers = runtime.workers.clone();
            manager.ask(
                &workers,
                move |request, _| ToWorker::Place { request, placement: placement.clone() },
                |_, _| {},
            );
        });
    }

    /// A runtime listens elsewhere now: tells the proxies that name it.
    pub(super) fn refresh_dependents(&mut self, name: &str) {
        let group = self.runtimes.get(name).and_then(|runtime| runtime.config.group.clone());
        let names_it = |config: &RuntimeConfig| {
            config.backends.iter().any(|backend| {
                let address = backend_parts(backend).1;
                let named = address.strip_prefix('@');
                address == name || named.is_some() && named == group.as_deref()
            })
        };
        let dependents: Vec<String> = self
            .runtimes
            .values()
            .filter(|runtime| runtime.is_running() && names_it(&runtime.config))
            .map(|runtime| runtime.name().to_owned())
            .collect();
        for dependent in dependents {
            self.refresh_backends(&dependent);
        }
    }

    /// The backends of a proxy, or the target of a client, with the addresses that are known now.
    pub(super) fn backends(&self, config: &RuntimeConfig) -> Vec<Backend> {
        self.backends_with(config, &[])
    }

    /// The same while others are about to listen at `soon`: a backend may be one of them.
    pub(super) fn backends_with(
        &self,
        config: &RuntimeConfig,
        soon: &[(&str, Address)],
    ) -> Vec<Backend> {
        if config.kind == RuntimeKind::Client {
            let targets = config.target.iter();
            let mut targets: Vec<Backend> =
                targets.map(|target| self.backend(backend_of(target), soon)).collect();
            let addresses = targets.iter_mut().flat_map(|it| &mut it.addresses);
            for address in addresses.filter(|_| config.udp) {
                if let Address::Ip(ip) = address {
                    *address = Address::Udp(*ip);
                }
            }
            return targets;
        }
        let backends = config.backends.iter().map(|text| backend_of(text));
        let all = backends.flat_map(|backend| self.members(config, backend));
        all.map(|backend| self.backend(backend, soon)).collect()
    }

    /// What a backend stands for: a group, all of its runtimes that run; anything else, itself.
    fn members(&self, config: &RuntimeConfig, backend: Backend) -> Vec<Backend> {
        let Some(group) = backend.address.strip_prefix('@') else { return vec![backend] };
        let is_member = |runtime: &&super::Runtime| {
            runtime.is_running()
                && runtime.name() != config.name
                && runtime.config.group.as_deref() == Some(group)
        };
        let members = self.runtimes.values().filter(is_member);
        members
            .map(|runtime| Backend { address: runtime.name().to_owned(), ..backend.clone() })
            .collect()
    }

    fn backend(&self, backend: Backend, soon: &[(&str, Address)]) -> Backend {
        let address = &backend.address;
        let addresses = match address.parse::<Target>() {
            Ok(target) => match target.literal() {
                Some(literal) => vec![literal],
                None => self.names.found.get(&target).cloned().unwrap_or_default(),
            },
            Err(_) => self.address_of(address, soon).into_iter().collect(),
        };
        Backend { addresses, ..backend }
    }

    /// Where a runtime can be reached from this machine.
    fn address_of(&self, name: &str, soon: &[(&str, Address)]) -> Option<Address> {
        let soon =
            soon.iter().find(|(other, _)| *other == name).map(|(_, address)| address.clone());
        let bound = self.listeners.of(name).map(|(address, _)| address);
        let configured = || self.runtimes.get(name)?.config.listen.clone();
        // One that takes any port keeps the one that it has.
        let soon = soon.filter(|address| address.port() != 0 || address.ip().is_none());
        let known = soon.or(bound).or_else(configured);
        match known? {
            Address::Ip(address) if address.port() == 0 => None,
            Address::Ip(address) => {
                Some(SocketAddr::new(reachable(address.ip()), address.port()).into())
            }
            path @ Address::Unix(_) => Some(path),
            Address::Udp(_) => None,
        }
    }
}

/// An address that listens everywhere is dialled on this machine's own.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// The targets of a runtime that need the resolver.
fn lookups(config: &RuntimeConfig) -> Vec<Target> {
    let backends = config.backends.iter().map(|backend| backend_parts(backend).1);
    let target = config.target.as_deref().filter(|_| config.kind == RuntimeKind::Client);
    backends
        .chain(target)
        .filter_map(|address| address.parse::<Target>().ok())
        .filter(|target| target.literal().is_none())
        .collect()
}
