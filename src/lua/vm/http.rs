//! HTTP requests as events: one payload with everything a handler may ask of a head, written where the VM reads it.

use super::AppVm;
use crate::id::{ConnectionId, RuntimeId};
use crate::lua::leaves::kind;
use crate::lua::{BodyPiece, HttpRequest};

/// Where a body's reader stands, as `lua/app/http.lua` numbers it.
const DATA: u32 = 0;
const END: u32 = 1;
const BROKEN: u32 = 2;

impl AppVm {
    /// A request; its bytes are copied. [`crate::lua::Action::Http`] answers.
    pub fn on_request(
        &mut self,
        runtime: RuntimeId,
        connection: ConnectionId,
        event: &HttpRequest<'_>,
    ) {
        let Some(index) = self.index_of(runtime) else { return };
        self.make_room();
        let start = self.payload.len();
        write_request(&mut self.payload, event);
        let (id, slot) = (connection.bits() as f64, connection.slot());
        let route = event.route.map_or(0, |route| route + 1);
        self.push_written(index, kind::REQUEST, id, slot, route, start);
    }

    /// A request whose way through a proxy is asked for. [`crate::lua::Action::Route`] answers, or
    /// [`crate::lua::Action::Http`].
    pub fn on_route_request(
        &mut self,
        runtime: RuntimeId,
        connection: ConnectionId,
        event: &HttpRequest<'_>,
    ) {
        let Some(index) = self.index_of(runtime) else { return };
        self.make_room();
        let start = self.payload.len();
        write_request(&mut self.payload, event);
        let (id, slot) = (connection.bits() as f64, connection.slot());
        self.push_written(index, kind::ROUTE_REQUEST, id, slot, 0, start);
    }

    /// A piece of a body for the task that waits for it.
    pub fn on_body(&mut self, task: u64, piece: BodyPiece<'_>) {
        let (arg, bytes) = match piece {
            BodyPiece::Data(bytes) => (DATA, bytes),
            BodyPiece::End => (END, &[][..]),
            BodyPiece::Broken => (BROKEN, &[][..]),
        };
        self.push(0, kind::BODY, task as f64, 0, arg, bytes);
    }
}

/// `sk_request` of `lua/app/boot.lua`, then the text that `lua/app/http.lua` reads: the spans of the parameters in the
/// path, method, path, query, and each field as a line end, its name in lower case, a colon and its value; a line end;
/// then the body.
fn write_request(out: &mut Vec<u8>, event: &HttpRequest<'_>) {
    let start = out.len();
    let HttpRequest { head, request, .. } = event;
    let method = request.method.of(head);
    let target = request.path_and_query.of(head);
    let split = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(split);
    let (path, query) = (if path.is_empty() { b"/" } else { path }, query.get(1..));
    let query = query.unwrap_or_default();
    out.extend_from_slice(&event.number.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    let is_old = request.version == crate::proto::http1::Version::Http10;
    let flags = u16::from(is_old) + 2 * u16::from(event.tls);
    for length in [method.len(), path.len(), query.len(), event.parameters.len()] {
        out.extend_from_slice(&(length as u16).to_le_bytes());
    }
    out.extend_from_slice(&flags.to_le_bytes());
    for (start, len) in event.parameters {
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
    }
    out.extend_from_slice(method);
    out.extend_from_slice(path);
    out.extend_from_slice(query);
    for field in event.fields {
        out.push(b'\n');
        let name = out.len();
        out.extend_from_slice(field.name.of(head));
        out[name..].make_ascii_lowercase();
        out.push(b':');
        out.extend_from_slice(field.value.of(head));
    }
    out.push(b'\n');
    let text = (out.len() - start - HEADER_BYTES) as u32;
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&text.to_ne_bytes());
    out.extend_from_slice(event.body);
}

/// Bytes before the text: the request's number and the text's length.
const HEADER_BYTES: usize = 8;
