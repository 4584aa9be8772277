//! Verbs about a proxy's backends: how each fares, and what an operator says of it.
//!
//! What is said takes effect at once, in all workers, by the state that they share; it lasts until the daemon ends.
//! Must not know: how backends are chosen.

use serde_json::{Value, json};

use super::verbs::Arguments;
use super::{Manager, Runtime};
use crate::control::answer::Outcome;
use crate::error::OperatorError;
use crate::id::RuntimeKind;
use crate::limits::PROXY_WEIGHT_MAX;
use crate::runtime::Backend;
use crate::runtime::proxy::shared::{Admin, Shared};
use crate::suggest::did_you_mean;

impl Manager {
    fn find_proxy(&self, arguments: &Arguments) -> Result<&Runtime, OperatorError> {
        let runtime = self.find(arguments.text("name")?)?;
        match runtime.config.kind {
            RuntimeKind::Proxy => Ok(runtime),
            kind => {
                let name = runtime.name();
                Err(OperatorError::failed(format!("\"{name}\" is a {kind}: it has no backends")))
            }
        }
    }

    /// `backends {name}`: a row for each.
    pub(super) fn verb_backends(&self, arguments: &Arguments) -> Outcome {
        let runtime = self.find_proxy(arguments)?;
        let rows = self.backends(&runtime.config).into_iter().map(|backend| {
            let shared = runtime.stats.backend(&backend.key());
            row(&backend, &shared)
        });
        Ok(rows.collect())
    }

    /// `backend {name, backend, state?, weight?}`: what an operator says of one, or of all of a name.
    pub(super) fn verb_backend(&self, arguments: &Arguments) -> Outcome {
        let runtime = self.find_proxy(arguments)?;
        let wanted = arguments.text("backend")?;
        let state = match arguments.maybe_text("state")? {
            None => None,
            Some(word) => Some(Admin::parse(word).ok_or_else(|| {
                OperatorError::usage(format!("\"{word}\" is not a state"))
                    .hint("up, drain and maintenance are")
            })?),
        };
        let weight = arguments.number("weight")?;
        if weight.is_some_and(|weight| weight > PROXY_WEIGHT_MAX) {
            return Err(OperatorError::usage(format!("a weight is at most {PROXY_WEIGHT_MAX}"))
                .hint("0 goes back to the weight in the proxy's fields"));
        }
        let all = self.backends(&runtime.config);
        let named = |backend: &&Backend| {
            wanted == backend.key() || wanted == backend.name || wanted == backend.address
        };
        let mut rows = Vec::new();
        for backend in all.iter().filter(named) {
            let shared = runtime.stats.backend(&backend.key());
            if let Some(state) = state {
                shared.set_admin(state, self.setup.now.monotonic_ms());
            }
            if let Some(weight) = weight {
                shared.set_weight(weight as u32);
            }
            rows.push(row(backend, &shared));
        }
        if rows.is_empty() {
            let name = runtime.name();
            let mut error =
                OperatorError::failed(format!("proxy \"{name}\" has no backend \"{wanted}\""));
            let known: Vec<String> = all.iter().map(Backend::key).collect();
            error.hint = did_you_mean(wanted, known.iter().map(String::as_str))
                .or_else(|| Some(format!("`socketley backends {name}` shows them")));
            return Err(error);
        }
        Ok(Value::Array(rows))
    }
}

fn row(backend: &Backend, shared: &Shared) -> Value {
    let (requests, errors, retries) = shared.counts();
    let state = match shared.admin() {
        Admin::Up if backend.addresses.is_empty() => "unresolved",
        Admin::Up if shared.is_down() => "down",
        Admin::Up if shared.is_open() => "failing",
        admin => admin.name(),
    };
    let addresses: Vec<String> = backend.addresses.iter().map(ToString::to_string).collect();
    json!({
        "name": backend.name,
        "address": backend.address,
        "state": state,
        "weight": shared.weight().unwrap_or(backend.weight),
        "backup": backend.backup,
        "in_flight": shared.in_flight(),
        "requests": requests,
        "errors": errors,
        "retries": retries,
        "latency_us": shared.latency_us(),
        "addresses": addresses,
    })
}
