//! Makes a VM: the trusted chunks in their order, the sandbox, and the dispatcher's functions that Rust calls.
//!
//! Must not know: events, actions.
#![allow(unsafe_code, reason = "a VM with the FFI and debug libraries; scripts see neither")]

use std::ffi::c_void;
use std::rc::Rc;

use mlua::{Function, LightUserData, Lua, LuaOptions, StdLib, Table};

use super::context::Context;
use super::entry::Drive;
use super::leaves::{self, Event};
use super::natives;
use super::snapshot::Connections;
use super::watchdog::WatchSlot;
use super::{AppSource, bundle};
use crate::limits::MISS_WAIT_MS;

/// The trusted chunks after `boot`, in order; `loop` is loaded once per runtime.
const CHUNKS: &[&str] = &[
    "dispatch",
    "connections",
    "tasks",
    "sockets",
    "errands",
    "sync",
    "cache",
    "runtimes",
    "handlers",
    "hooks",
    "pubsub",
    "http",
    "sandbox",
    "load",
    "api",
    "requests",
];

/// Where LuaRocks and the distributions put modules in Lua, for Lua 5.1.
const PACKAGE_PATH: &str = "/usr/local/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?/init.lua;\
                            /usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua";

/// The dispatcher's side of a VM.
pub(super) struct Kernel {
    pub(super) drive: Drive,
    pub(super) skip: Function,
    pub(super) load_main: Function,
    pub(super) definitions: Function,
    pub(super) commands: Function,
    pub(super) bind: Function,
    pub(super) start_deferred: Function,
    pub(super) retire: Function,
    pub(super) load_figures: Function,
    pub(super) state_tables: Function,
    pub(super) connections: Connections,
    /// Runtimes by their objects.
    pub(super) runtimes: Table,
    /// The table that all trusted chunks share.
    shared: Table,
}

impl Kernel {
    /// Sets the time that trusted Lua sees outside an entry.
    pub(super) fn set_time(&self, monotonic_ms: u64, unix_ms: u64) -> mlua::Result<()> {
        self.shared.raw_set("now_ms", monotonic_ms as f64)?;
        self.shared.raw_set("unix_ms", unix_ms as f64)
    }
}

/// A new VM for an app, and the dispatcher in it.
pub(super) fn make(
    app: &AppSource,
    context: &Rc<Context>,
    watch: &WatchSlot,
    events: *const Event,
    seed: u64,
) -> mlua::Result<(Lua, Kernel)> {
    // SAFETY: the libraries that break memory safety are out of every script's reach (`lua/app/sandbox.lua`).
    let lua = unsafe { Lua::unsafe_new_with(StdLib::ALL, LuaOptions::new()) };
    let sk = lua.create_table()?;
    let runtimes = lua.create_table()?;
    sk.raw_set("runtime_of", &runtimes)?;
    sk.raw_set("pointers", pointers(&lua, context, watch, events)?)?;
    sk.raw_set("native", natives::table(&lua, context, &runtimes)?)?;
    sk.raw_set("miss_wait_ms", MISS_WAIT_MS)?;
    sk.raw_set("memory_mb", app.limits.memory_bytes >> 20)?;
    sk.raw_set("restricted", app.limits.restricted)?;
    sk.raw_set("package_path", if app.limits.restricted { "" } else { PACKAGE_PATH })?;
    sk.raw_set("loop_text", text("loop"))?;
    let globals = lua.globals();
    lua.load(text("boot")).set_name("=[sk boot]").call::<()>(&sk)?;
    let own: Table = sk.raw_get("env")?;
    for name in CHUNKS {
        let chunk = lua.load(text(name)).set_name(format!("=[sk {name}]"));
        chunk.set_environment(own.clone()).call::<()>((&sk, &globals))?;
    }
    let owner = app.owner.as_ref().map(|owner| -> mlua::Result<Table> {
        let table = lua.create_table()?;
        table.raw_set("kind", owner.kind.name())?;
        table.raw_set("name", owner.name.as_str())?;
        table.raw_set("port", owner.port)?;
        Ok(table)
    });
    let (_, main_chunk) = context.sources.borrow().main();
    sk.raw_set("main_chunk", main_chunk)?;
    let install: Function = sk.raw_get("install_runtimes")?;
    install.call::<()>((&globals, owner.transpose()?))?;
    let randomseed: Function = own.raw_get::<Table>("math")?.raw_get("randomseed")?;
    randomseed.call::<()>((seed >> 11) as f64)?;
    lua.set_memory_limit(app.limits.memory_bytes)?;
    let kernel = Kernel {
        drive: Drive::new(&lua, &sk.raw_get("drive")?)?,
        skip: sk.raw_get("skip")?,
        load_main: sk.raw_get("load_main")?,
        definitions: sk.raw_get("definition_rows")?,
        commands: sk.raw_get("command_specs")?,
        bind: sk.raw_get("bind")?,
        start_deferred: sk.raw_get("start_deferred")?,
        retire: sk.raw_get("retire")?,
        load_figures: sk.raw_get("load_figures")?,
        state_tables: sk.raw_get("state_tables")?,
        connections: Connections {
            id_of: sk.raw_get("connection_id")?,
            object_for: sk.raw_get("connection_for")?,
        },
        runtimes,
        shared: sk,
    };
    Ok((lua, kernel))
}

/// A trusted chunk's text.
fn text(name: &str) -> &'static str {
    let path = format!("lua/app/{name}.lua");
    bundle::find(&path).expect("the bundle's test compares its rows with the folder").text
}

fn pointers(
    lua: &Lua,
    context: &Rc<Context>,
    watch: &WatchSlot,
    events: *const Event,
) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let add = |name: &str, pointer: *mut c_void| table.raw_set(name, LightUserData(pointer));
    add("events", events.cast_mut().cast())?;
    add("control", watch.control())?;
    add("host", Rc::as_ptr(context).cast_mut().cast())?;
    for (name, address) in leaves::addresses() {
        add(name, address.cast_mut().cast())?;
    }
    Ok(table)
}
