//! The Lua files inside the binary: `lua/` (private to the daemon) and `stdlib/` (public modules).
//!
//! One row per file; a test compares the rows with the folders, so a file can't be forgotten. Must not know: what runs
//! the files. The public modules are `require "socketley"` (`stdlib/socketley.lua`) and `require "socketley.NAME"`
//! (`stdlib/NAME.lua`).

/// A Lua file of this crate.
#[derive(Debug)]
pub struct Bundled {
    /// From the crate's root: `stdlib/inspect.lua`.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl Bundled {
    /// The chunk's name for LuaJIT, so that a traceback says `[socketley]/stdlib/inspect.lua:7`, which is what
    /// [`is_ours`] recognises.
    pub fn chunk_name(&self) -> String {
        format!("=[socketley]/{}", self.path)
    }
}

/// Whether a traceback's line is about a bundled file.
pub fn is_ours(line: &str) -> bool {
    line.trim_start().starts_with("[socketley]/")
}

macro_rules! bundle {
    ($($path:literal),* $(,)?) => {
        &[$(Bundled {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)),
        }),*]
    };
}

/// All files.
pub static FILES: &[Bundled] = bundle! {
    "lua/app/api.lua",
    "lua/app/boot.lua",
    "lua/app/cache.lua",
    "lua/app/connections.lua",
    "lua/app/dispatch.lua",
    "lua/app/errands.lua",
    "lua/app/handlers.lua",
    "lua/app/hooks.lua",
    "lua/app/http.lua",
    "lua/app/load.lua",
    "lua/app/loop.lua",
    "lua/app/pubsub.lua",
    "lua/app/requests.lua",
    "lua/app/runtimes.lua",
    "lua/app/sandbox.lua",
    "lua/app/sockets.lua",
    "lua/app/sync.lua",
    "lua/app/tasks.lua",
    "lua/commands/apply.lua",
    "lua/commands/backend.lua",
    "lua/commands/backends.lua",
    "lua/commands/cert.lua",
    "lua/commands/check.lua",
    "lua/commands/commands.lua",
    "lua/commands/complete.lua",
    "lua/commands/completion.lua",
    "lua/commands/console.lua",
    "lua/commands/create.lua",
    "lua/commands/daemon.lua",
    "lua/commands/edit.lua",
    "lua/commands/eval.lua",
    "lua/commands/help.lua",
    "lua/commands/info.lua",
    "lua/commands/init.lua",
    "lua/commands/logs.lua",
    "lua/commands/ls.lua",
    "lua/commands/man.lua",
    "lua/commands/ping.lua",
    "lua/commands/plan.lua",
    "lua/commands/ps.lua",
    "lua/commands/reload-lua.lua",
    "lua/commands/reload.lua",
    "lua/commands/remove.lua",
    "lua/commands/restart.lua",
    "lua/commands/rollback.lua",
    "lua/commands/run.lua",
    "lua/commands/send.lua",
    "lua/commands/show.lua",
    "lua/commands/start.lua",
    "lua/commands/stats.lua",
    "lua/commands/stop.lua",
    "lua/commands/test.lua",
    "lua/commands/top.lua",
    "lua/commands/version.lua",
    "lua/console.lua",
    "lua/control.lua",
    "lua/out.lua",
    "lua/shared.lua",
    "lua/starter.lua",
    "lua/starter_test.lua",
    "lua/store/boot.lua",
    "lua/store/commands.lua",
    "lua/store/libraries.lua",
    "lua/store/main.lua",
    "lua/store/redis.lua",
    "lua/store/run.lua",
    "lua/store/sandbox.lua",
    "stdlib/env.lua",
    "stdlib/http.lua",
    "stdlib/http/client.lua",
    "stdlib/inspect.lua",
    "stdlib/metrics.lua",
    "stdlib/middleware.lua",
    "stdlib/redis.lua",
    "stdlib/regex.lua",
    "stdlib/retry.lua",
    "stdlib/session.lua",
    "stdlib/socketley.lua",
    "stdlib/task.lua",
    "stdlib/test.lua",
    "stdlib/time.lua",
    "stdlib/timer.lua",
    "stdlib/url.lua",
    "stdlib/uuid.lua",
};

/// The file at `path` (from the crate's root).
pub fn find(path: &str) -> Option<&'static Bundled> {
    FILES.iter().find(|file| file.path == path)
}

/// The file of a public module: `socketley` or `socketley.NAME`.
pub fn module(name: &str) -> Option<&'static Bundled> {
    let stem = match name.strip_prefix("socketley") {
        Some("") => "socketley",
        Some(rest) => &rest.strip_prefix('.')?.replace('.', "/"),
        None => return None,
    };
    find(&format!("stdlib/{stem}.lua"))
}

/// The built-in commands' files.
pub fn commands() -> impl Iterator<Item = &'static Bundled> {
    FILES.iter().filter(|file| file.path.starts_with("lua/commands/"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn lua_files(root: &Path, folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Types for editors describe the VM; nothing loads them.
                if path.file_name().unwrap() != "meta" {
                    lua_files(root, &path, into);
                }
            } else if path.extension().is_some_and(|extension| extension == "lua") {
                into.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_string());
            }
        }
    }

    #[test]
    fn every_file_of_the_folders_is_bundled_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut on_disk = BTreeSet::new();
        lua_files(root, &root.join("lua"), &mut on_disk);
        lua_files(root, &root.join("stdlib"), &mut on_disk);
        let rows: Vec<String> = FILES.iter().map(|file| file.path.to_string()).collect();
        let bundled: BTreeSet<String> = rows.iter().cloned().collect();
        assert_eq!(bundled.len(), rows.len(), "a file is listed twice");
        assert_eq!(bundled, on_disk);
    }

    /// Evaluates an expression beside a public module, as any Lua 5.1 would.
    fn with_module(name: &str, expression: &str) -> String {
        let lua = mlua::Lua::new();
        let file = module(name).unwrap();
        let module: mlua::Value = lua.load(file.text).set_name(file.chunk_name()).eval().unwrap();
        lua.globals().set("m", module).unwrap();
        lua.load(format!("return {expression}")).eval().unwrap()
    }

    #[test]
    fn inspect_shows_any_value() {
        for (expression, expected) in [
            ("m(nil)", "nil"),
            ("m(1/3)", "0.33333333333333"),
            ("m(2^53) .. m(-0.5) .. m(1/0) .. m(0/0)", "9007199254740992-0.5infnan"),
            ("m('tab\\t \"quoted\" \\27')", "\"tab\\t \\\"quoted\\\" \\027\""),
            ("m(('x'):rep(10), { bytes = 4 })", "\"xxxx\" ... 6 bytes more"),
            ("m({})", "{}"),
            ("m({ 1, 2, nil, 4 })", "{ 1, 2, [4] = 4 }"),
            (
                "m({ b = 1, a = { true }, ['end'] = 2, ['x y'] = 3, [0] = 4, [true] = 5 }, { width = 20 })",
                "{\n  [0] = 4,\n  a = { true },\n  b = 1,\n  [\"end\"] = 2,\n  [\"x y\"] = 3,\n  [true] = 5,\n}",
            ),
            (
                "m((function() local t = { n = {} } t.n.up = t return t end)())",
                "{ n = { up = <cycle> } }",
            ),
            ("m((function() local t = {} return { t, t } end)())", "{ {}, {} }"),
            ("m({ { { {} } } }, { depth = 2 })", "{ { {...} } }"),
            ("m({ 1, 2, 3, 4 }, { items = 2 })", "{ 1, 2, ... 2 more }"),
            ("m(print)", "<function>"),
            ("m(setmetatable({}, { __tostring = function() return 'conn 5' end }))", "<conn 5>"),
            ("m(setmetatable({}, { __tostring = function() error('no') end }))", "<table>"),
            ("m(setmetatable({}, { __index = error, __pairs = error }))", "{}"),
            (
                "m({ { id = 1, name = 'a' }, { id = 20, up = true } }, { grid = true })",
                "ID  NAME  UP\n1   a     -\n20  -     true",
            ),
            ("m({ { id = 1 }, 2 }, { grid = true })", "{ { id = 1 }, 2 }"),
            ("m({ { id = {} } }, { grid = true })", "{ { id = {} } }"),
        ] {
            assert_eq!(with_module("socketley.inspect", expression), expected, "{expression}");
        }
    }

    #[test]
    fn modules_are_found_by_their_public_name() {
        for (name, path) in [
            ("socketley", Some("stdlib/socketley.lua")),
            ("socketley.inspect", Some("stdlib/inspect.lua")),
            ("socketley.http.client", Some("stdlib/http/client.lua")),
            ("socketley.nope", None),
            ("inspect", None),
            ("socketleyinspect", None),
        ] {
            assert_eq!(module(name).map(|file| file.path), path, "{name}");
        }
    }
}
