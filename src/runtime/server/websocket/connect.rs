//! A client runtime's side of the handshake: the request, and the answer that makes its connection a WebSocket.
//!
//! Until then the connection is a guest of its runtime: what goes wrong is a failed dial, and is tried again as one.

use crate::limits;
use crate::proto::websocket::Side;
use crate::proto::websocket::handshake::Offer;
use crate::runtime::connection::ProtocolState;
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::{client, server};

/// Asks for a WebSocket on a connection that has just come about.
pub fn connect(local: &mut Local, slot: u32) {
    let mut random = [0; 16];
    for half in random.as_chunks_mut::<8>().0 {
        *half = local.random.next_u64().to_ne_bytes();
    }
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let settings = &config.websocket;
    let offer = Offer::new(random, &settings.subprotocols, settings.deflate);
    let host = config.target.as_deref().unwrap_or_default();
    let request = offer.request(host, &settings.path);
    let connection = local.connections.at(slot);
    connection.protocol = ProtocolState::Connecting(Box::new(offer));
    let event = TimerEvent::Upgrade { connection: connection.id };
    local.timers.insert(local.now, limits::HANDSHAKE_MS, event);
    local.send(slot, request.as_bytes());
    local.read_on(slot);
}

/// Bytes of the answer.
pub fn on_answer_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    let ProtocolState::Connecting(offer) = &connection.protocol else { return };
    let mut input = std::mem::take(&mut connection.input);
    input.extend_from_slice(bytes);
    match offer.judge(&input) {
        Ok(None) => connection.input = input,
        Err(answer) => failed(local, slot, &answer.to_string()),
        Ok(Some(established)) => {
            let index = connection.instance;
            let most = local.instance_at(index).config().websocket.message_bytes_max;
            super::begin(local, slot, Side::Client, established.compression, most);
            client::opened(local, slot);
            server::on_bytes(local, slot, &input[established.bytes..]);
        }
    }
}

/// There will be no WebSocket.
pub fn failed(local: &mut Local, slot: u32, why: &str) {
    local.connections.at(slot).failure = Some(why.into());
    local.close_now(slot);
}
