//! Asking backends whether they are well, at regular times, by the first of the proxy's workers for all of them.
//!
//! A check is a connection of its own: it stands (`tcp`), or it answers a request as it should (`http`). What a check
//! finds is in the backend's shared state at once, for every worker. Must not know: who is chosen.

use crate::id::{ConnectionId, RuntimeId};
use crate::limits;
use crate::log::LogLevel;
use crate::net::dial::Target;
use crate::proto::http1::{Body, HeadScan, ResponseBody, Step, parse_response};
use crate::ring::{Address, Errno, Fd};
use crate::runtime::connection::{Phase, Role};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::{client, opening};

use super::settings::{Check, Health};

/// A check under way.
#[derive(Debug)]
pub struct Probe {
    /// The backend's number.
    serial: u32,
    /// What has come of the answer.
    answer: Vec<u8>,
    /// Its outcome is known.
    is_over: bool,
}

/// The checks of a proxy begin, go on or end as its fields say.
pub fn begin(local: &mut Local, index: usize) {
    let worker = local.worker;
    let instance = local.instance_at(index);
    let is_first = instance.placement.workers.first() == Some(&worker);
    let wanted = instance.config().proxy.check != Check::None;
    if !wanted {
        instance.proxy.members().iter().for_each(|member| member.shared.unchecked());
        return;
    }
    if is_first && !std::mem::replace(&mut instance.proxy.checks, true) {
        let runtime = instance.placement.id;
        check_all(local, runtime);
    }
}

/// Time for the next checks.
pub fn on_timer(local: &mut Local, runtime: RuntimeId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    let instance = local.instance_at(index);
    let goes_on = instance.config().proxy.check != Check::None && instance.stopping.is_none();
    if goes_on {
        check_all(local, runtime);
    } else {
        instance.proxy.checks = false;
    }
}

fn check_all(local: &mut Local, runtime: RuntimeId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    let instance = local.instance_at(index);
    let interval_ms = instance.config().proxy.health.interval_ms;
    let members: Vec<(u32, Option<Address>)> = instance
        .proxy
        .members()
        .iter()
        .map(|member| (member.serial, member.backend.addresses.first().cloned()))
        .collect();
    for (serial, address) in members {
        match address {
            Some(address) => check(local, index, serial, address),
            None => settle(local, index, serial, Err("its name doesn't resolve".to_owned())),
        }
    }
    local.timers.insert(local.now, interval_ms, TimerEvent::Health { runtime });
}

fn check(local: &mut Local, index: usize, serial: u32, address: Address) {
    let timeout_ms = local.instance_at(index).config().proxy.health.timeout_ms;
    let role = Role::Probe(Box::new(Probe { serial, answer: Vec::new(), is_over: false }));
    // A full worker says nothing about the backend.
    let Some(slot) = local.insert_connection(index, None, address, role) else { return };
    let id = local.connections.at(slot).id;
    client::start_connect(local, slot, timeout_ms);
    local.timers.insert(local.now, timeout_ms, TimerEvent::Probe { connection: id });
}

fn probe(local: &mut Local, slot: u32) -> Option<&mut Probe> {
    match &mut local.connections.get_mut(slot)?.role {
        Role::Probe(probe) => Some(probe),
        _ => None,
    }
}

/// A check's dial has ended.
pub fn on_connected(local: &mut Local, slot: u32, result: Result<Fd, Errno>) {
    match result {
        Ok(fd) => {
            let connection = local.connections.at(slot);
            (connection.fd, connection.phase) = (Some(fd), Phase::Open);
            let host = host(local, slot);
            let name = host.parse::<Target>().map_or(host, |target| target.host);
            if !opening::dial_tls(local, slot, &name) {
                opened(local, slot);
            }
        }
        Err(error) => finish(local, slot, Err(error.to_string())),
    }
}

/// What the backend is asked by.
fn host(local: &mut Local, slot: u32) -> String {
    let connection = local.connections.at(slot);
    let (index, peer) = (connection.instance, connection.peer.to_string());
    let serial = probe(local, slot).map_or(0, |probe| probe.serial);
    let member = local.instance_at(index).proxy.get(serial);
    let address = member.map(|member| member.backend.address.clone());
    address.filter(|address| address.contains(':')).unwrap_or(peer)
}

/// It stands, TLS included.
pub fn opened(local: &mut Local, slot: u32) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    if config.proxy.check != Check::Http {
        return finish(local, slot, Ok(()));
    }
    let host = host(local, slot);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: socketley\r\nConnection: close\r\n\r\n",
        config.proxy.health.path
    );
    local.send(slot, request.as_bytes());
    local.read_on(slot);
}

/// A piece of the answer.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let Some(probe) = probe(local, slot) else { return };
    if probe.is_over {
        return;
    }
    probe.answer.extend_from_slice(bytes);
    let is_too_much = probe.answer.len() > limits::PROXY_CHECK_BYTES_MAX;
    if let Some(verdict) = judge(&probe.answer, &config.proxy.health, is_too_much) {
        finish(local, slot, verdict);
    }
}

/// The backend has ended its stream: what has come is all there is.
pub fn on_end(local: &mut Local, slot: u32) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let Some(probe) = probe(local, slot) else { return };
    let verdict = judge(&probe.answer, &config.proxy.health, true);
    finish(local, slot, verdict.unwrap_or_else(|| Err("it doesn't answer".to_owned())));
}

/// The check has taken too long.
pub fn on_late(local: &mut Local, id: ConnectionId) {
    if let Some(slot) = local.connections.slot_of(id) {
        finish(local, slot, Err("it doesn't answer in time".to_owned()));
    }
}

/// The connection is gone, or its handshake has failed.
pub fn on_gone(local: &mut Local, slot: u32) {
    let why = local.connections.at(slot).failure.take();
    let why = why.unwrap_or_else(|| "the connection broke".into()).into_string();
    finish(local, slot, Err(why));
}

/// What an answer says; nothing while more of it may say otherwise. `is_all`: there won't be more.
fn judge(answer: &[u8], wanted: &Health, is_all: bool) -> Option<Result<(), String>> {
    let mut fields = Vec::new();
    let mut scan = HeadScan::default();
    let head = match parse_response(answer, &mut scan, false, &mut fields) {
        Err(_) => return Some(Err("its answer can't be understood".to_owned())),
        Ok(None) => return is_all.then(|| Err("it doesn't answer".to_owned())),
        Ok(Some(head)) => head,
    };
    let (response, end) = head;
    let (from, to) = wanted.status;
    if (100..200).contains(&response.status) {
        return judge(&answer[end..], wanted, is_all);
    }
    if !(from..=to).contains(&response.status) {
        return Some(Err(format!("it answers {}", response.status)));
    }
    let Some(text) = &wanted.body else { return Some(Ok(())) };
    let body = body_of(&answer[end..], response.body);
    if memchr::memmem::find(&body, text.as_bytes()).is_some() {
        return Some(Ok(()));
    }
    is_all.then(|| Err(format!("its answer doesn't hold \"{text}\"")))
}

/// The body's bytes as far as they have come.
fn body_of(mut bytes: &[u8], kind: ResponseBody) -> Vec<u8> {
    let ResponseBody::Framed(mut body) = kind else { return bytes.to_vec() };
    let mut out = Vec::new();
    while body != Body::None {
        let used = match body.next(bytes) {
            Ok(Step::Data(range)) => {
                out.extend_from_slice(&bytes[range.clone()]);
                range.end
            }
            Ok(Step::End(used)) => used,
            Ok(Step::More) | Err(_) => break,
        };
        bytes = &bytes[used..];
    }
    out
}

/// The check has an outcome.
fn finish(local: &mut Local, slot: u32, verdict: Result<(), String>) {
    let index = local.connections.at(slot).instance;
    let Some(probe) = probe(local, slot) else { return };
    if std::mem::replace(&mut probe.is_over, true) {
        return;
    }
    let serial = probe.serial;
    probe.answer = Vec::new();
    local.close_now(slot);
    settle(local, index, serial, verdict);
}

fn settle(local: &mut Local, index: usize, serial: u32, verdict: Result<(), String>) {
    let now_ms = local.now.monotonic_ms();
    let instance = local.instance_at(index);
    let config = instance.config_arc();
    if config.proxy.check == Check::None || instance.stopping.is_some() {
        return;
    }
    let Some(member) = instance.proxy.get(serial) else { return };
    let Health { rise, fall, .. } = config.proxy.health;
    let changed = member.shared.checked(verdict.is_ok(), rise, fall, now_ms);
    let name = member.backend.key();
    match (changed, verdict) {
        (Some(true), _) => {
            local.log(LogLevel::Info, &config.name, format!("backend {name} is up again"));
        }
        (Some(false), Err(why)) => {
            local.log(LogLevel::Warn, &config.name, format!("backend {name} is down: {why}"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_by_status_and_body() {
        let plain = Health::default();
        let strict = Health { status: (204, 204), body: None, ..Health::default() };
        let ready = Health { body: Some("ready".to_owned()), ..Health::default() };
        let cases: &[(&Health, &str, bool, Option<bool>)] = &[
            (&plain, "", false, None),
            (&plain, "", true, Some(false)),
            (&plain, "HTTP/1.1 200 OK\r\nContent-", false, None),
            (&plain, "HTTP/1.1 200 OK\r\n\r\n", false, Some(true)),
            (&plain, "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No\r\n\r\n", false, Some(true)),
            (&plain, "HTTP/1.1 302 Found\r\n\r\n", false, Some(false)),
            (&plain, "SSH-2.0-OpenSSH\r\n\r\n", false, Some(false)),
            (&strict, "HTTP/1.1 200 OK\r\n\r\n", false, Some(false)),
            (&strict, "HTTP/1.1 204 No\r\n\r\n", false, Some(true)),
            (&ready, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nis rea", false, None),
            (&ready, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nis ready!", false, Some(true)),
            (&ready, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", true, Some(false)),
            (
                &ready,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n",
                false,
                Some(true),
            ),
        ];
        for (wanted, answer, is_all, expected) in cases {
            let verdict = judge(answer.as_bytes(), wanted, *is_all).map(|it| it.is_ok());
            assert_eq!(verdict, *expected, "{answer:?}");
        }
    }
}
