//! How a script's socket comes to be open: its name is looked up, its addresses are tried in order, TLS shakes hands.
//!
//! Lookups and certificates are read by a helper thread. The script's own timeout ends all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{
    News, Owner, Phase, Socket, close_now, ended_op, finish, forget, read_on, tell, token,
};
use crate::id::ConnectionId;
use crate::limits;
use crate::lua::{Dial, DialTls, SocketFailure};
use crate::net::Outbox;
use crate::net::dial::Target;
use crate::net::tls::{Files, Mode, Session, Settings, server_name};
use crate::ring::{Address, Errno, Fd, Op, OpKind, Token};
use crate::runtime::local::Local;
use crate::runtime::message::ToWorker;

/// What is known of a dial.
pub(super) struct Dialling {
    task: u64,
    /// To try, the next one last.
    addresses: Vec<Address>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// What a helper thread has found out for a dial.
pub struct Found {
    addresses: Vec<Address>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Begins a dial; whatever comes of it, the VM hears once.
pub(super) fn begin(local: &mut Local, owner: Owner, number: u64, dial: Dial) {
    let refuse = |local: &mut Local, code, text| {
        let failure = Err(SocketFailure { code, text });
        local.sockets.late.push((owner, News::Dialled(number, dial.task, failure)));
    };
    let host = dial.host.trim_matches(['[', ']']);
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let target: Target = match format!("{shown}:{}", dial.port).parse() {
        Ok(target) => target,
        Err(error) => {
            let error: crate::error::OperatorError = error;
            return refuse(local, "invalid", error.message);
        }
    };
    let open = local.sockets.numbers.range((owner, 0)..=(owner, u64::MAX)).count();
    if open >= limits::SCRIPT_SOCKETS_MAX {
        let text =
            format!("the app has {open} sockets already; close some, or keep them in a pool");
        return refuse(local, "limit", text);
    }
    let Some(id) = local.connections.reserve() else {
        return refuse(local, "limit", "the worker holds too many connections".to_owned());
    };
    let dialling = Dialling { task: dial.task, addresses: Vec::new(), tls: None };
    let socket = Socket {
        owner,
        number,
        phase: Phase::Dialling(Box::new(dialling)),
        fd: None,
        session: None,
        outbox: Outbox::new(),
        drain: None,
        in_flight: 0,
        receiving: false,
        cancelling: false,
        paused: false,
        read_ended: false,
        forgotten: false,
    };
    local.sockets.all.insert(id.bits(), socket);
    local.sockets.numbers.insert((owner, number), id.bits());
    look_up(local, id, target, dial.tls);
}

/// Finds the addresses, and what TLS needs; at once if nothing of that can block.
fn look_up(local: &mut Local, id: ConnectionId, target: Target, tls: Option<Box<DialTls>>) {
    let given = local.sockets.hosts.get(&target.host);
    let known = given.map(|ip| Address::Ip((*ip, target.port).into()));
    let known = known.or_else(|| target.literal());
    if known.is_none() && local.sockets.hosts_only {
        let text = format!("{} has no address here", target.host);
        return on_found(local, id.bits(), Err(SocketFailure { code: "not_found", text }));
    }
    if let (Some(address), None) = (known, &tls) {
        return on_found(local, id.bits(), Ok(Found { addresses: vec![address], tls: None }));
    }
    let inbox = Arc::clone(&local.workers[usize::from(local.worker)]);
    let job = move || {
        let found = find(&target, tls.as_deref());
        inbox.send(ToWorker::Found { id: id.bits(), found });
    };
    if !local.sockets.errands.run(job) {
        let text = format!("{} lookups and files wait already", limits::ERRANDS_MAX);
        on_found(local, id.bits(), Err(SocketFailure { code: "limit", text }));
    }
}

/// **Blocks**, for a helper thread.
fn find(target: &Target, tls: Option<&DialTls>) -> Result<Found, SocketFailure> {
    let addresses = target
        .resolve()
        .map_err(|error| SocketFailure { code: "not_found", text: error.message })?;
    let Some(tls) = tls else { return Ok(Found { addresses, tls: None }) };
    let wanted = tls.server_name.as_deref().unwrap_or(&target.host);
    let name = server_name(wanted).ok_or_else(|| SocketFailure {
        code: "tls",
        text: format!("\"{wanted}\" can't be a server's name"),
    })?;
    let config = client_config(tls)?;
    Ok(Found { addresses, tls: Some((config, name)) })
}

/// What dials with the same options share, so that sessions are resumed; read again when a file of it changes.
fn client_config(tls: &DialTls) -> Result<Arc<ClientConfig>, SocketFailure> {
    type Stamps = Vec<Option<std::time::SystemTime>>;
    type Known = BTreeMap<DialTls, (Stamps, Arc<ClientConfig>)>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let files = [&tls.authorities, &tls.certificate, &tls.key];
    let stamp =
        |path: &std::path::PathBuf| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    let stamps: Stamps = files.into_iter().flatten().map(stamp).collect();
    if let Some((seen, config)) = KNOWN.lock().get(tls)
        && *seen == stamps
    {
        return Ok(Arc::clone(config));
    }
    let settings = Settings {
        mode: Mode::On,
        files: Files {
            certificates: tls.certificate.iter().cloned().collect(),
            keys: tls.key.iter().cloned().collect(),
            authorities: tls.authorities.clone(),
        },
        protocols: tls.protocols.clone(),
        insecure: tls.insecure,
        ..Settings::default()
    };
    let loaded = settings.load(true, None);
    let loaded = loaded.map_err(|error| SocketFailure { code: "tls", text: error.to_string() })?;
    let config = loaded
        .dial
        .ok_or_else(|| SocketFailure { code: "tls", text: "TLS can't be set up".to_owned() })?;
    let mut known = KNOWN.lock();
    if known.len() >= limits::SCRIPT_TLS_KEPT_MAX {
        known.clear();
    }
    known.insert(tls.clone(), (stamps, Arc::clone(&config)));
    Ok(config)
}

/// The addresses of a dial are known, or there are none.
pub fn on_found(local: &mut Local, id: u64, found: Result<Found, SocketFailure>) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let Phase::Dialling(dialling) = &mut socket.phase else { return };
    match found {
        Ok(Found { mut addresses, tls }) => {
            addresses.reverse();
            dialling.addresses = addresses;
            dialling.tls = tls;
            let none = SocketFailure { code: "not_found", text: "it has no address".to_owned() };
            connect(local, id, none);
        }
        Err(why) => failed(local, id, why),
    }
}

/// Tries the next address.
fn connect(local: &mut Local, id: u64, why: SocketFailure) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let Phase::Dialling(dialling) = &mut socket.phase else { return };
    let Some(address) = dialling.addresses.pop() else { return failed(local, id, why) };
    socket.in_flight += 1;
    local.ops.push(Op::Connect { address, token: token(OpKind::Connect, id) });
}

/// An attempt has ended.
pub(super) fn on_connected(local: &mut Local, op: Token, result: Result<Fd, Errno>) {
    let Some(id) = ended_op(local, op) else {
        if let Ok(fd) = result {
            local.close_unowned(fd);
        }
        return;
    };
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    match (result, &mut socket.phase) {
        (Ok(fd), Phase::Dialling(dialling)) => {
            let tls = dialling.tls.take();
            socket.fd = Some(fd);
            shake_hands(local, id, tls);
        }
        (Err(error), Phase::Dialling(_)) => connect(local, id, Socket::failure(error)),
        // Nobody wants it any more.
        (Ok(fd), _) => {
            socket.fd = Some(fd);
            finish(local, id);
        }
        (Err(_), _) => finish(local, id),
    }
}

fn shake_hands(local: &mut Local, id: u64, tls: Option<(Arc<ClientConfig>, ServerName<'static>)>) {
    let Some((config, name)) = tls else { return opened(local, id) };
    match Session::client(config, name) {
        Ok(session) => {
            let Some(socket) = local.sockets.all.get_mut(&id) else { return };
            socket.session = Some(Box::new(session));
            local.sockets.dirty.push(id);
            read_on(local, id);
        }
        Err(error) => failed(local, id, SocketFailure { code: "tls", text: error.to_string() }),
    }
}

/// It is open, the handshake included.
pub(super) fn opened(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let Phase::Dialling(dialling) = std::mem::replace(&mut socket.phase, Phase::Open) else {
        return;
    };
    let (owner, number) = (socket.owner, socket.number);
    tell(local, owner, News::Dialled(number, dialling.task, Ok(())));
    read_on(local, id);
}

/// It will never be open.
pub(super) fn failed(local: &mut Local, id: u64, why: SocketFailure) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let Phase::Dialling(dialling) = &socket.phase else { return };
    let (owner, number, task) = (socket.owner, socket.number, dialling.task);
    if !socket.forgotten {
        tell(local, owner, News::Dialled(number, task, Err(why)));
    }
    if socket_is_bare(local, id) {
        return forget(local, id);
    }
    close_now(local, id);
}

fn socket_is_bare(local: &Local, id: u64) -> bool {
    local.sockets.all.get(&id).is_some_and(|socket| socket.fd.is_none() && socket.in_flight == 0)
}
