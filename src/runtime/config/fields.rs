//! The table of runtime fields, one row each.
//!
//! A field that is known but has no effect in this version is in [`super::later`]: refused with the reason, never
//! accepted and ignored.

use serde_json::json;

use super::row::{Read, Write};
use super::{backends, behind, commands, values as v};
use crate::id::RuntimeKind::{self, Cache, Client, Proxy, Server};
use crate::limits::{
    BACKLOG_BYTES_LIMIT, BACKLOG_BYTES_MIN, DETECT_MS_MAX, WEBSOCKET_MESSAGE_BYTES_LIMIT,
    WEBSOCKET_PING_MS_MAX,
};
use crate::runtime::{Protocol, WorkerCount};
use crate::store::eviction::Policy;

/// One field of runtimes.
pub struct Field {
    /// Its name in Lua, JSON and errors.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// The types of runtime that have it.
    pub kinds: &'static [RuntimeKind],
    /// What its value looks like.
    pub value: ValueType,
    /// The default in words, for help.
    pub default: &'static str,
    /// The command line's flag, if it has one.
    pub flag: Option<Flag>,
    /// One line of help.
    pub help: &'static str,
    /// Whether it may change while the runtime runs.
    pub live: bool,
    /// Whether it is written out even at its default.
    pub required: bool,
    /// Checks a value and puts it in.
    pub write: Write,
    /// Its present value; nothing if unset.
    pub read: Read,
}

/// A field's flag of `create` and `edit`.
pub struct Flag {
    /// Without the two hyphens.
    pub long: &'static str,
    /// Without the hyphen.
    pub short: Option<char>,
    /// Other long names.
    pub aliases: &'static [&'static str],
}

/// What a field's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A text.
    Text,
    /// A whole number.
    Integer,
    /// True or false; a flag without a value.
    Boolean,
    /// Keys and values; in a file only.
    Table,
    /// Texts; on the command line separated by commas.
    List,
    /// `PORT` or `HOST:PORT`.
    Address,
    /// A file's path.
    File,
    /// Files' paths; on the command line separated by commas.
    Files,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The same; a flag without a value means the first.
    Switch(&'static [&'static str]),
}

impl ValueType {
    /// Its name in specs.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Text => "string",
            ValueType::Integer => "integer",
            ValueType::Boolean => "boolean",
            ValueType::Table => "table",
            ValueType::List => "list",
            ValueType::Address => "address",
            ValueType::File => "file",
            ValueType::Files => "files",
            ValueType::Choice(_) => "choice",
            ValueType::Switch(_) => "switch",
        }
    }

    /// The words of a choice; else nothing.
    pub fn choices(self) -> &'static [&'static str] {
        if let ValueType::Choice(words) | ValueType::Switch(words) = self { words } else { &[] }
    }
}

impl Field {
    /// Whether this is the field's name or another name of it.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

const fn flag(long: &'static str) -> Option<Flag> {
    Some(Flag { long, short: None, aliases: &[] })
}

const fn short_flag(long: &'static str, short: char) -> Option<Flag> {
    Some(Flag { long, short: Some(short), aliases: &[] })
}

const ALL: &[RuntimeKind] = &RuntimeKind::ALL;
const LISTENING: &[RuntimeKind] = &[Server, Proxy, Cache];
const MESSAGING: &[RuntimeKind] = &[Server, Client];

/// Every field, in the order of `show` and `--help`.
pub static FIELDS: &[Field] = &[
    Field {
        name: "port",
        aliases: &["listen"],
        kinds: LISTENING,
        value: ValueType::Address,
        default: "server 8000, proxy 8080, cache 9000, on 127.0.0.1",
        flag: Some(Flag { long: "port", short: Some('p'), aliases: &["listen"] }),
        help: "where to listen: PORT (on 127.0.0.1), HOST:PORT, *:PORT, udp:PORT or unix:/PATH; 0 picks a free port",
        live: false,
        required: true,
        write: v::set_listen,
        read: |config| config.listen.as_ref().map(v::address_out),
    },
    Field {
        name: "mode",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Choice(&["inout", "in", "out", "echo", "master"]),
        default: "inout",
        flag: flag("mode"),
        help: "who may speak: inout (a server without handlers relays), in (receive only), out (send only), echo (each message goes back), master (only the client that has said \"master PASSWORD\")",
        live: true,
        required: false,
        write: |config, value| v::choice(value, v::MODES).map(|mode| config.mode = mode),
        read: |config| v::word(config.mode, v::MODES),
    },
    Field {
        name: "framing",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Text,
        default: "lines",
        flag: flag("framing"),
        help: "what makes a message: lines, raw, length (4 bytes), length1, length2 or length4",
        live: false,
        required: false,
        write: v::set_framing,
        read: |config| Some(v::framing_out(config.framing)),
    },
    Field {
        name: "protocol",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::Choice(&["auto", "lines", "raw", "http", "websocket"]),
        default: "auto",
        flag: flag("protocol"),
        help: "what clients speak: auto (told from the first bytes), lines, raw, http or websocket",
        live: false,
        required: false,
        write: v::set_protocol,
        read: v::protocol_out,
    },
    Field {
        name: "protocol",
        aliases: &[],
        kinds: &[Client],
        value: ValueType::Choice(&["lines", "raw", "websocket"]),
        default: "lines",
        flag: None,
        help: "what the server speaks: websocket, or lines or raw, the same as framing",
        live: false,
        required: false,
        write: v::set_client_protocol,
        read: |config| (config.protocol == Protocol::WebSocket).then(|| json!("websocket")),
    },
    Field {
        name: "detect_ms",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::Integer,
        default: "100",
        flag: None,
        help: "on auto: after so many milliseconds without a byte, on_connect runs as for lines",
        live: true,
        required: false,
        write: |config, value| v::integer(value, 0, DETECT_MS_MAX).map(|ms| config.detect_ms = ms),
        read: |config| Some(json!(config.detect_ms)),
    },
    Field {
        name: "path",
        aliases: &[],
        kinds: &[Client],
        value: ValueType::Text,
        default: "/",
        flag: flag("path"),
        help: "WebSocket: the path and query to ask the server for",
        live: false,
        required: false,
        write: |config, value| v::path(value).map(|path| config.websocket.path = path),
        read: |config| Some(json!(config.websocket.path)),
    },
    Field {
        name: "websocket",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Boolean,
        default: "false",
        flag: flag("websocket"),
        help: "the same as protocol \"websocket\"",
        live: false,
        required: false,
        write: v::set_websocket,
        read: |_| None,
    },
    Field {
        name: "max_backlog",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::Integer,
        default: "67108864",
        flag: flag("max-backlog"),
        help: "bytes that may wait for a client that doesn't read; beyond, backpressure says",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, BACKLOG_BYTES_MIN, BACKLOG_BYTES_LIMIT)
                .map(|bytes| config.backlog_bytes_max = bytes as usize)
        },
        read: |config| Some(json!(config.backlog_bytes_max)),
    },
    Field {
        name: "backpressure",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::Choice(&["close", "drop"]),
        default: "close",
        flag: flag("backpressure"),
        help: "what a client's full backlog does: close it, or drop its oldest messages",
        live: true,
        required: false,
        write: |config, value| {
            v::choice(value, v::BACKPRESSURE).map(|drops| config.drops_oldest = drops)
        },
        read: |config| v::word(config.drops_oldest, v::BACKPRESSURE),
    },
    Field {
        name: "subprotocols",
        aliases: &["subprotocol"],
        kinds: MESSAGING,
        value: ValueType::List,
        default: "none",
        flag: Some(Flag { long: "subprotocols", short: None, aliases: &["subprotocol"] }),
        help: "WebSocket: the subprotocols to agree on, the dearest first",
        live: true,
        required: false,
        write: |config, value| v::tokens(value).map(|list| config.websocket.subprotocols = list),
        read: |config| v::list_out(&config.websocket.subprotocols),
    },
    Field {
        name: "origins",
        aliases: &["origin"],
        kinds: &[Server],
        value: ValueType::List,
        default: "all",
        flag: Some(Flag { long: "origins", short: None, aliases: &["origin"] }),
        help: "WebSocket: the pages that may connect, such as https://example.org; others get 403",
        live: true,
        required: false,
        write: |config, value| v::origins(value).map(|list| config.websocket.origins = list),
        read: |config| v::list_out(&config.websocket.origins),
    },
    Field {
        name: "deflate",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Boolean,
        default: "true",
        flag: None,
        help: "WebSocket: agree on compressing messages (permessage-deflate)",
        live: true,
        required: false,
        write: |config, value| v::boolean(value).map(|on| config.websocket.deflate = on),
        read: |config| Some(json!(config.websocket.deflate)),
    },
    Field {
        name: "max_message",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Integer,
        default: "16777216",
        flag: flag("max-message"),
        help: "WebSocket: bytes of a message at most; a longer one closes with 1009",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, 1, WEBSOCKET_MESSAGE_BYTES_LIMIT)
                .map(|bytes| config.websocket.message_bytes_max = bytes as usize)
        },
        read: |config| Some(json!(config.websocket.message_bytes_max)),
    },
    Field {
        name: "ping_ms",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Integer,
        default: "30000",
        flag: flag("ping-ms"),
        help: "WebSocket: after so many silent milliseconds a ping is sent; 0 for never",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, 0, WEBSOCKET_PING_MS_MAX).map(|ms| config.websocket.ping_ms = ms)
        },
        read: |config| Some(json!(config.websocket.ping_ms)),
    },
    Field {
        name: "ping_timeout_ms",
        aliases: &[],
        kinds: MESSAGING,
        value: ValueType::Integer,
        default: "20000",
        flag: flag("ping-timeout-ms"),
        help: "WebSocket: a peer that doesn't answer a ping for so many milliseconds is closed",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, 1, WEBSOCKET_PING_MS_MAX)
                .map(|ms| config.websocket.ping_timeout_ms = ms)
        },
        read: |config| Some(json!(config.websocket.ping_timeout_ms)),
    },
    Field {
        name: "protocol",
        aliases: &[],
        kinds: &[Proxy],
        value: ValueType::Choice(&["http", "tcp"]),
        default: "http",
        flag: flag("protocol"),
        help: "what to pass on: http (requests, over kept connections to backends) or tcp (any stream)",
        live: false,
        required: true,
        write: |config, value| {
            v::choice(value, v::PROXIED).map(|protocol| config.protocol = protocol)
        },
        read: |config| v::word(config.protocol, v::PROXIED),
    },
    Field {
        name: "max_connections",
        aliases: &["max_conn"],
        kinds: LISTENING,
        value: ValueType::Integer,
        default: "0: no limit of its own",
        flag: Some(Flag { long: "max-connections", short: None, aliases: &["max-conn"] }),
        help: "accepted connections at a time; more are turned away",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, 0, u64::from(u32::MAX)).map(|n| config.max_connections = n as u32)
        },
        read: |config| Some(json!(config.max_connections)),
    },
    Field {
        name: "target",
        aliases: &[],
        kinds: &[Client],
        value: ValueType::Text,
        default: "127.0.0.1:8000",
        flag: short_flag("target", 't'),
        help: "the HOST:PORT or unix:/PATH to connect to, or a ws:// or wss:// address",
        live: false,
        required: true,
        write: v::set_target,
        read: |config| config.target.as_ref().map(|target| json!(target)),
    },
    Field {
        name: "reconnect",
        aliases: &[],
        kinds: &[Client],
        value: ValueType::Integer,
        default: "0: for ever",
        flag: flag("reconnect"),
        help: "failed attempts in a row before giving up; 0 never gives up, -1 never reconnects",
        live: true,
        required: false,
        write: |config, value| v::reconnect(value).map(|tries| config.reconnect = tries),
        read: |config| Some(config.reconnect.map_or(json!(-1), |tries| json!(tries))),
    },
    Field {
        name: "backends",
        aliases: &["backend", "upstreams", "upstream"],
        kinds: &[Proxy],
        value: ValueType::List,
        default: "none",
        flag: Some(Flag { long: "backend", short: None, aliases: &["backends"] }),
        help: "HOST:PORT, unix:/PATH, a runtime's name or @GROUP; NAME=... names one or several alike; options behind a blank: weight=N, backup",
        live: true,
        required: false,
        write: |config, value| backends::read(value).map(|backends| config.backends = backends),
        read: |config| (!config.backends.is_empty()).then(|| json!(config.backends)),
    },
    Field {
        name: "strategy",
        aliases: &[],
        kinds: &[Proxy],
        value: ValueType::Choice(&[
            "round-robin",
            "random",
            "two-choices",
            "least-conn",
            "hash",
            "latency",
            "lua",
        ]),
        default: "round-robin",
        flag: flag("strategy"),
        help: "how to choose a backend: by weight in turn or at random, by load, by hash_on, or lua (on_route decides)",
        live: true,
        required: false,
        write: |config, value| v::strategy(value).map(|strategy| config.strategy = strategy),
        read: |config| v::word(config.strategy, v::STRATEGIES),
    },
    Field {
        name: "resp",
        aliases: &[],
        kinds: &[Cache],
        value: ValueType::Boolean,
        default: "true",
        flag: flag("resp"),
        help: "speak RESP, Redis's protocol; every cache of this version does",
        live: true,
        required: false,
        write: |_, value| v::resp(value),
        read: |_| Some(json!(true)),
    },
    Field {
        name: "mode",
        aliases: &["access"],
        kinds: &[Cache],
        value: ValueType::Choice(&["readonly", "readwrite", "admin"]),
        default: "readwrite",
        flag: flag("mode"),
        help: "what clients may do: readonly, readwrite or admin (DEBUG from other machines, too)",
        live: false,
        required: false,
        write: |config, value| v::choice(value, v::ACCESSES).map(|access| config.access = access),
        read: |config| v::word(config.access, v::ACCESSES),
    },
    Field {
        name: "commands",
        aliases: &[],
        kinds: &[Cache],
        value: ValueType::Table,
        default: "none",
        flag: None,
        help: "commands in Lua: [\"NAME\"] = { keys = 1, flags = \"write\", run = function(db, key) ... end }",
        live: true,
        required: false,
        write: |config, value| commands::read(value).map(|specs| config.commands = specs.into()),
        read: |config| (!config.commands.is_empty()).then(|| commands::write(&config.commands)),
    },
    Field {
        name: "write_behind",
        aliases: &[],
        kinds: &[Cache],
        value: ValueType::Table,
        default: "none",
        flag: None,
        help: "writes changes elsewhere in batches: { every = \"1s\", max = 500, run = function(batch) ... end }",
        live: true,
        required: false,
        write: |config, value| behind::read(value).map(|settings| config.write_behind = settings),
        read: |config| behind::write(config.write_behind),
    },
    Field {
        name: "password",
        aliases: &["requirepass"],
        kinds: &[Cache],
        value: ValueType::Text,
        default: "none",
        flag: flag("password"),
        help: "what clients must give to AUTH",
        live: false,
        required: false,
        write: |config, value| v::password(value).map(|password| config.password = password),
        read: |config| config.password.as_ref().map(|password| json!(password)),
    },
    Field {
        name: "replicate",
        aliases: &["replicaof", "replica_of"],
        kinds: &[Cache],
        value: ValueType::Text,
        default: "none",
        flag: flag("replicate"),
        help: "HOST:PORT of the Redis or cache whose replica it is from its start; REPLICAOF changes that while it runs",
        live: false,
        required: false,
        write: |config, value| v::primary(value).map(|primary| config.replicate = primary),
        read: |config| v::primary_out(config.replicate.as_ref()),
    },
    Field {
        name: "maxmemory",
        aliases: &["max_memory"],
        kinds: &[Cache],
        value: ValueType::Text,
        default: "0: no limit",
        flag: Some(Flag { long: "maxmemory", short: None, aliases: &["max-memory"] }),
        help: "bytes that the cache may take: a number, or like 256mb, 1gb (k, m, g: 1000, 1000^2, ...)",
        live: true,
        required: false,
        write: |config, value| v::bytes(value).map(|bytes| config.maxmemory = bytes),
        read: |config| Some(json!(v::bytes_out(config.maxmemory))),
    },
    Field {
        name: "eviction",
        aliases: &["maxmemory_policy"],
        kinds: &[Cache],
        value: ValueType::Choice(&[
            "noeviction",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
        ]),
        default: "noeviction",
        flag: flag("eviction"),
        help: "what goes when maxmemory is reached; noeviction refuses writes, volatile-* takes only keys that expire",
        live: true,
        required: false,
        write: |config, value| {
            v::choice(value, &Policy::NAMES).map(|policy| config.eviction = policy)
        },
        read: |config| v::word(config.eviction, &Policy::NAMES),
    },
    Field {
        name: "workers",
        aliases: &[],
        kinds: LISTENING,
        value: ValueType::Text,
        default: "one with handlers, all without",
        flag: flag("workers"),
        help: "how many workers serve it: a number or \"all\"; with handlers, each has a Lua state of its own",
        live: false,
        required: false,
        write: |config, value| v::workers(value).map(|workers| config.workers = workers),
        read: |config| match config.workers {
            WorkerCount::Default => None,
            WorkerCount::Count(count) => Some(json!(count)),
            WorkerCount::All => Some(json!("all")),
        },
    },
    Field {
        name: "lua",
        aliases: &["config", "script"],
        kinds: ALL,
        value: ValueType::Text,
        default: "none",
        flag: flag("lua"),
        help: "a script with on_message, on_connect, ... as global functions",
        live: false,
        required: false,
        write: |config, value| v::text(value).map(|path| config.lua = Some(path.into())),
        read: |config| config.lua.as_ref().map(|path| json!(path)),
    },
    Field {
        name: "autostart",
        aliases: &["start"],
        kinds: ALL,
        value: ValueType::Boolean,
        default: "false on the command line, true in a file",
        flag: short_flag("start", 's'),
        help: "start at once",
        live: true,
        required: false,
        write: |config, value| v::boolean(value).map(|start| config.autostart = Some(start)),
        read: |config| config.autostart.map(|start| json!(start)),
    },
];
