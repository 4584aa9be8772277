//! What a request tells the choice of its backend: a key for strategy `hash`, the cookie that it sticks by.

use crate::proto::http1::parse_request;
use crate::runtime::Strategy;
use crate::runtime::local::Local;
use crate::runtime::proxy::balance::{self, Ask, Nobody};
use crate::runtime::proxy::choose;
use crate::runtime::proxy::settings::HashKey;

use super::front_at;

/// The backend that is next for a request.
pub(super) fn chosen(local: &mut Local, slot: u32) -> Result<usize, Nobody> {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let needs_key = config.strategy == Strategy::Hash
        || local
            .instance_at(index)
            .proxy
            .members()
            .iter()
            .any(|member| member.backend.strategy == Some(Strategy::Hash));
    let hash = if needs_key { key_of(local, slot, &config.proxy.hash) } else { 0 };
    let mark = config.proxy.sticky.as_ref().and_then(|name| {
        let value = cookie(local, slot, name.as_bytes())?;
        u64::from_str_radix(std::str::from_utf8(&value).ok()?, 16).ok()
    });
    let Some(front) = front_at(local, slot) else { return Err(Nobody::None) };
    let (tried, group) = (std::mem::take(&mut front.exchange.tried), front.exchange.group.take());
    let ask = Ask { group: group.as_deref(), tried: &tried, hash, mark };
    let chosen = choose(local, index, &ask);
    let new_mark = chosen.ok().and_then(|at| {
        let own = local.instance_at(index).proxy.members()[at].mark;
        (config.proxy.sticky.is_some() && mark != Some(own)).then_some(own)
    });
    if let Some(front) = front_at(local, slot) {
        (front.exchange.tried, front.exchange.group) = (tried, group);
        front.exchange.new_mark = new_mark;
    }
    chosen
}

/// What strategy `hash` looks at, as a number.
fn key_of(local: &mut Local, slot: u32, key: &HashKey) -> u64 {
    match key {
        HashKey::Address => {
            let ip = local.connections.at(slot).peer.ip_or_local().to_canonical();
            balance::hash(ip.to_string().as_bytes())
        }
        HashKey::Path => front_at(local, slot)
            .and_then(|front| Some((front.exchange.request?, &front.exchange.head)))
            .map_or(0, |(request, head)| {
                let target = request.path_and_query.of(head);
                balance::hash(target.split(|byte| *byte == b'?').next().unwrap_or_default())
            }),
        HashKey::Header(name) => {
            field(local, slot, name.as_bytes()).map_or(0, |value| balance::hash(&value))
        }
        HashKey::Cookie(name) => {
            cookie(local, slot, name.as_bytes()).map_or(0, |value| balance::hash(&value))
        }
    }
}

/// A field of the request under way.
fn field(local: &mut Local, slot: u32, name: &[u8]) -> Option<Vec<u8>> {
    read_fields(local, slot);
    let fields = std::mem::take(&mut local.proxy.fields);
    let found = front_at(local, slot).and_then(|front| {
        let head = &front.exchange.head;
        let field = fields.iter().find(|it| it.name.of(head).eq_ignore_ascii_case(name))?;
        Some(field.value.of(head).to_vec())
    });
    local.proxy.fields = fields;
    found
}

fn cookie(local: &mut Local, slot: u32, name: &[u8]) -> Option<Vec<u8>> {
    let cookies = field(local, slot, b"cookie")?;
    cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value.to_vec())
    })
}

/// Sees to it that the fields read last are those of the request under way.
pub(super) fn read_fields(local: &mut Local, slot: u32) {
    let id = local.connections.at(slot).id;
    if local.proxy.fields_of == Some(id) {
        return;
    }
    let mut fields = std::mem::take(&mut local.proxy.fields);
    if let Some(front) = front_at(local, slot)
        && let Some(request) = front.exchange.request
    {
        let head = &front.exchange.head;
        if parse_request(head, request.method.start as usize, &mut fields).is_err() {
            fields.clear();
        }
        local.proxy.fields_of = Some(id);
    }
    local.proxy.fields = fields;
}
